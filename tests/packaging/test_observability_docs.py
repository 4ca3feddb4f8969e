"""docs/observability.md names every metric and every access log field, as the code has them."""

import re
from pathlib import Path

import orjson
import pytest

from proxy.errors import UpstreamTimeout
from proxy.exchange import Exchange
from proxy.telemetry.access_log import JsonAccessLog
from proxy.telemetry.events import Decision
from proxy.telemetry.line_writer import LineWriter
from proxy.telemetry.metrics import FAMILIES, SECONDS_BUCKETS, TIMEOUT_KINDS
from tests.support.exchange import make_exchange

DOCS = (Path(__file__).parents[2] / "docs" / "observability.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    section = DOCS.partition(f"\n## {heading}\n")[2]
    rows = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert rows is not None
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[0].splitlines()[2:]]


def test_metrics_table_holds_every_family_with_its_type_and_labels() -> None:
    documented = {(name.strip("`"), kind, labels) for name, kind, labels, _ in table("Metrics")}

    declared = {(f.name, f.kind, ", ".join(f"`{label}`" for label in f.labels)) for f in FAMILIES}

    assert documented == declared


def test_buckets_are_documented() -> None:
    milliseconds = [bound * 1000 for bound in SECONDS_BUCKETS if bound < 1]
    seconds = [bound for bound in SECONDS_BUCKETS if bound >= 1]

    sentence = next(line for line in DOCS.splitlines() if "buckets" in line)
    in_milliseconds, in_seconds = sentence.partition("buckets")[2].split(" ms ")

    assert [float(number) for number in re.findall(r"[0-9.]*[0-9]", in_milliseconds)] == milliseconds
    assert [float(number) for number in re.findall(r"[0-9.]*[0-9]", in_seconds)] == seconds


@pytest.mark.parametrize("kind", TIMEOUT_KINDS)
def test_timeout_kinds_are_documented(kind: str) -> None:
    meaning = next(row[3] for row in table("Metrics") if row[0] == "`proxy_timeouts_total`")

    assert f"`{kind}`" in meaning


def test_fields_table_holds_every_field_of_the_access_log(tmp_path: Path) -> None:
    exchange = make_exchange(headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    plain = logged(make_exchange(), tmp_path / "plain")
    exchange.received_deadline, exchange.deadline = True, 2.0
    exchange.cache_outcome = "miss"
    exchange.decide(Decision("timeout", "timeout"))
    exchange.error = UpstreamTimeout("total")
    exchange.error.cause = "no answer from 127.0.0.1:3000"
    full = logged(exchange, tmp_path / "full")

    rows = table("Access log")

    assert [row[0].strip("`") for row in rows] == list(full)
    assert [row[0].strip("`") for row in rows if row[1] == "always"] == list(plain)


def logged(exchange: Exchange, file: Path) -> dict[str, object]:
    log = JsonAccessLog(LineWriter(str(file)))
    log.record(exchange, 200, 0.1)
    log.close()
    fields = orjson.loads(file.read_bytes())
    assert isinstance(fields, dict)
    return fields
