"""Lines reach files and pipes, and a reader who has stopped costs lines, never time."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.telemetry.line_writer import LineWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, str]]:
    """The reading end of a pipe, and a path that opens its writing end."""
    reading, writing = os.pipe()
    yield reading, f"/proc/self/fd/{writing}"
    for fd in (reading, writing):
        os.close(fd)


def read_lines(fd: int, count: int) -> list[bytes]:
    data = b""
    while data.count(b"\n") < count:
        data += os.read(fd, 65536)
    return data.splitlines(keepends=True)


def is_taken(writer: LineWriter, line: bytes) -> bool:
    before = writer.dropped
    writer.write(line)
    return writer.dropped == before


def until(condition: Callable[[], object]) -> None:
    """Wait for the writer's thread."""
    while not condition():
        time.sleep(0.005)


def numbered(number: int) -> bytes:
    return b"%06d %s\n" % (number, b"x" * 1000)


def test_lines_arrive_in_order_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    writer = LineWriter(str(file))

    for number in range(2000):
        writer.write(numbered(number))
    writer.close()

    assert file.read_bytes() == b"".join(map(numbered, range(2000)))
    assert writer.dropped == 0


def test_file_is_appended_to_and_closed_to_others(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    file.write_bytes(b"old\n")

    writer = LineWriter(str(file))
    writer.write(b"new\n")
    writer.close()
    other = LineWriter(str(tmp_path / "other.log"))
    other.close()

    assert file.read_bytes() == b"old\nnew\n"
    assert (tmp_path / "other.log").stat().st_mode & 0o007 == 0


def test_lines_are_written_without_closing(pipe: tuple[int, str]) -> None:
    reading, path = pipe
    writer = LineWriter(path)

    writer.write(b"one\n")

    assert read_lines(reading, 1) == [b"one\n"]
    writer.close()


def test_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LineWriter(str(tmp_path / "missing" / "access.log"))


def test_stopped_reader_costs_lines_that_are_counted(pipe: tuple[int, str], caplog: pytest.LogCaptureFixture) -> None:
    reading, path = pipe
    writer = LineWriter(path, max_pending=200_000)

    for number in range(1000):
        writer.write(numbered(number))

    refused = writer.dropped
    assert 1000 > refused >= 1000 - 200
    taken = read_lines(reading, 1000 - refused)
    writer.close()
    assert taken == [numbered(number) for number in range(1000 - refused)]
    assert writer.dropped == refused
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "once in ten seconds"


def test_lines_flow_again_when_the_reader_does(pipe: tuple[int, str]) -> None:
    reading, path = pipe
    writer = LineWriter(path, max_pending=100_000)
    for number in range(500):
        writer.write(numbered(number))

    read_lines(reading, 500 - writer.dropped)
    until(lambda: is_taken(writer, numbered(777)))

    assert read_lines(reading, 1) == [numbered(777)]
    writer.close()


def test_close_does_not_wait_for_a_stopped_reader(pipe: tuple[int, str]) -> None:
    reading, path = pipe
    writer = LineWriter(path)
    for number in range(1000):
        writer.write(numbered(number))

    writer.close(timeout=0.3)

    assert writer.dropped > 0
    read_lines(reading, 1000 - writer.dropped)


def test_line_after_the_close_counts_as_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = LineWriter(str(tmp_path / "access.log"))
    writer.close()

    writer.write(b"late\n")
    writer.close()

    assert writer.dropped == 1
    assert caplog.records == []


def test_standard_stream_outlives_reopen_and_close(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for line in (b"one\n", b"two\n"):
        writer = LineWriter("stdout")
        writer.reopen()
        writer.write(line)
        writer.close()

    assert capfdbinary.readouterr().out == b"one\ntwo\n"


def test_full_disk_costs_lines_that_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    writer = LineWriter("/dev/full")

    for number in range(100):
        writer.write(numbered(number))
    writer.close()

    assert writer.dropped == 100
    (record,) = caplog.records
    assert "No space left" in record.getMessage()


def test_writer_of_the_log_itself_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    writer = LineWriter("/dev/full", warns=False)

    writer.write(b"line\n")
    writer.close()

    assert writer.dropped == 1
    assert caplog.records == []


def test_reopen_goes_on_in_a_new_file(tmp_path: Path) -> None:
    file, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    writer = LineWriter(str(file))
    writer.write(b"one\n")
    until(file.read_bytes)

    file.rename(rotated)
    writer.reopen()
    writer.write(b"two\n")
    writer.close()

    assert rotated.read_bytes() == b"one\n"
    assert file.read_bytes() == b"two\n"


def test_failed_reopen_keeps_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    writer = LineWriter(str(folder / "access.log"))

    folder.rename(tmp_path / "old")
    writer.reopen()
    writer.write(b"line\n")
    writer.close()

    assert (tmp_path / "old" / "access.log").read_bytes() == b"line\n"
    assert "cannot reopen" in caplog.text


def run(script: str) -> bytes:
    return subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, timeout=30).stdout


def test_non_blocking_stdout_gets_every_line() -> None:
    script = """
import os
from proxy.telemetry.line_writer import LineWriter
os.set_blocking(1, False)
writer = LineWriter("stdout")
for number in range(3000):
    writer.write(b"%06d %s\\n" % (number, b"x" * 1000))
writer.close(20)
"""

    assert run(script) == b"".join(map(numbered, range(3000)))


def test_half_written_line_is_ended_before_the_next(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    script = f"""
import resource, time
from proxy.telemetry.line_writer import LineWriter
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
writer = LineWriter({str(file)!r}, warns=False)
writer.write(b"a" * 1199 + b"\\n")
while not writer.dropped:
    time.sleep(0.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
writer.write(b"whole\\n")
writer.close()
"""

    run(script)

    assert file.read_bytes() == b"a" * 1000 + b"\nwhole\n"
