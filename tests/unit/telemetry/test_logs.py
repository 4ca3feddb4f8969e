"""The process's own log: JSON, bounded, and not to be flooded."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.telemetry.line_writer import LineWriter
from proxy.telemetry.logs import FloodFilter, JsonFormatter, LineHandler
from tests.support.clock import ManualClock


class Log:
    """A logger of its own with our handler, and what it wrote."""

    def __init__(self, file: Path) -> None:
        self.clock = ManualClock()
        self._file = file
        self._handler = LineHandler(LineWriter(str(file), warns=False))
        self._handler.setFormatter(JsonFormatter())
        self._handler.addFilter(FloodFilter(self.clock))
        self.logger = logging.Logger("aiohttp.server")
        self.logger.addHandler(self._handler)

    def lines(self) -> list[dict[str, Any]]:
        self._handler.close()
        return [json.loads(line) for line in self._file.read_bytes().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "stderr")
    yield log
    log.lines()


def test_record_is_one_json_object(log: Log) -> None:
    log.logger.warning("reload of %s failed", "policies.yaml", extra={"problems": 5, "first": "line 3"})

    (line,) = log.lines()

    assert line.pop("time")[10] == "T"
    assert line == {
        "level": "warning",
        "logger": "aiohttp.server",
        "message": "reload of policies.yaml failed",
        "problems": 5,
        "first": "line 3",
    }


def test_traceback_becomes_a_field_that_keeps_its_end(log: Log) -> None:
    try:
        raise ValueError("x" * 10_000 + "the end")
    except ValueError:
        log.logger.exception("failed")

    (line,) = log.lines()

    assert line["exception"].endswith("the end")
    assert len(line["exception"]) == 4096


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "\udcff", "\u2028"])
def test_odd_text_stays_on_one_line(log: Log, text: str) -> None:
    log.logger.error("%s", text, extra={"field": text, "other": Path("x")})

    (line,) = log.lines()

    assert line["message"] == line["field"]
    assert line["other"] == "x"


def test_flood_is_cut_to_ten_lines_in_ten_seconds(log: Log) -> None:
    for _ in range(100_000):
        log.logger.error("Error handling request from %s", "10.0.0.1")

    assert len(log.lines()) == 10


def test_next_line_after_a_flood_says_how_many_were_left_out(log: Log) -> None:
    for seconds in (0.0,) * 25 + (10.0,) * 2:
        log.clock.now = 1000.0 + seconds
        log.logger.error("Error")

    assert [line.get("suppressed") for line in log.lines()] == [None] * 10 + [15, None]


def test_flood_of_one_statement_does_not_silence_another(log: Log) -> None:
    for number in range(50):
        log.logger.error("Error %d", number)
    log.logger.error("something else")

    assert log.lines()[-1]["message"] == "something else"


def test_record_that_cannot_be_formatted_does_not_raise(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    log.logger.error("%d", "not a number")

    assert log.lines() == []
    assert "Logging error" in capsys.readouterr().err


def test_setup_sends_everything_to_stderr_and_flushes_at_exit() -> None:
    script = """
import logging, warnings
from proxy.telemetry.logs import setup_logging
setup_logging("WARNING")
logging.getLogger("aiohttp.server").error("one")
logging.getLogger("proxy").info("quiet")
warnings.warn("two")
"""

    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=30)

    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["aiohttp.server", "py.warnings"]
    assert run.stdout == b""
