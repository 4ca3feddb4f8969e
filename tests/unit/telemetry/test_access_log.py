"""One safe line of JSON for each request, whatever the client sent."""

import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest, ConnectionRefused, UpstreamTimeout
from proxy.exchange import Exchange
from proxy.telemetry.access_log import JsonAccessLog, NoAccessLog, open_access_log, printable
from proxy.telemetry.events import Decision
from proxy.telemetry.line_writer import LineWriter
from tests.support.exchange import make_exchange

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def lines_of(*exchanges: Exchange) -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "access.log"
        log = JsonAccessLog(LineWriter(str(file)))
        for exchange in exchanges:
            log.record(exchange, 200, 0.0123456)
        log.close()
        return file.read_bytes().splitlines(keepends=True)


def logged(exchange: Exchange) -> dict[str, Any]:
    (line,) = lines_of(exchange)
    fields = orjson.loads(line)
    assert isinstance(fields, dict)
    return fields


def test_request_without_incident_is_described_in_full() -> None:
    exchange = make_exchange("GET", "/properties/1?token=secret", {"User-Agent": "curl/8"}, started=5.0)
    exchange.wall_started = 1700000000.25
    exchange.request_id, exchange.client_ip = "abc", "192.0.2.7"
    exchange.upstream_name, exchange.upstream_endpoint = "api", "http://127.0.0.1:3000"
    exchange.upstream_status, exchange.upstream_seconds, exchange.attempt = 200, 0.01, 1
    exchange.bytes_out = 42

    assert logged(exchange) == {
        "time": "2023-11-14T22:13:20.250Z",
        "request_id": "abc",
        "client_ip": "192.0.2.7",
        "route": "test",
        "method": "GET",
        "path": "/properties/1",
        "status": 200,
        "duration_ms": 12.345,
        "bytes_in": 0,
        "bytes_out": 42,
        "upstream": "api",
        "endpoint": "http://127.0.0.1:3000",
        "upstream_status": 200,
        "upstream_ms": 10.0,
        "attempts": 1,
        "user_agent": "curl/8",
    }


def test_error_brings_its_source_type_limit_and_cause() -> None:
    timed_out, refused = make_exchange(), make_exchange()
    timed_out.error = UpstreamTimeout("attempt")
    refused.error = ConnectionRefused(cause="127.0.0.1:3000 refused")

    assert logged(timed_out).items() >= {
        ("error_source", "upstream"),
        ("error", "http_response_timeout"),
        ("timeout", "attempt"),
    }
    assert logged(refused).items() >= {("error", "connection_refused"), ("cause", "127.0.0.1:3000 refused")}


def test_decisions_are_listed_in_order() -> None:
    exchange = make_exchange()
    exchange.decide(Decision("bulkhead", "refused", "shadow", detail="full"))
    exchange.decide(Decision("timeout", "timeout"))

    assert logged(exchange)["decisions"] == [
        {"policy": "bulkhead", "decision": "refused", "mode": "shadow", "detail": "full"},
        {"policy": "timeout", "decision": "timeout", "mode": "enforce"},
    ]


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        (f"00-{TRACE_ID}-b7ad6b7169203331-01", TRACE_ID),
        (f"00-{TRACE_ID.upper()}-b7ad6b7169203331-01", None),
        ("00-\x1b[31m-b7ad6b7169203331-01", None),
        ("", None),
    ],
)
def test_trace_id_is_taken_from_a_valid_traceparent_only(traceparent: str, trace_id: str | None) -> None:
    assert logged(make_exchange(headers={"traceparent": traceparent})).get("trace_id") == trace_id


def test_deadline_is_logged_when_a_caller_gave_it() -> None:
    own, received = make_exchange(started=5.0), make_exchange(started=5.0)
    own.deadline = received.deadline = 6.5
    received.received_deadline = True
    ended = make_exchange()
    ended.received_deadline = True

    assert "deadline_ms" not in logged(own)
    assert logged(received)["deadline_ms"] == 1500
    assert "deadline_ms" not in logged(ended)


@pytest.mark.parametrize("method", ["FOO", "get", "G\nET", "\udcff"])
def test_unknown_method_is_other(method: str) -> None:
    assert logged(make_exchange(method))["method"] == "other"


def test_secrets_do_not_reach_the_log() -> None:
    headers = {"Authorization": "Bearer canary", "Cookie": "id=canary", "X-Api-Key": "canary", "Referer": "/?k=canary"}

    (line,) = lines_of(make_exchange("GET", "/login?token=canary", headers))

    assert b"canary" not in line


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a\r\n{}", "/a%0D%0A{}"),
        ("/\x1b[31mred", "/%1B[31mred"),
        ("/\x9b31m\u2028\u202e", "/%C2%9B31m%E2%80%A8%E2%80%AE"),
        ('/"quoted"\\', '/"quoted"\\'),
        ("/caf\udce9", "/caf%E9"),
        ("/café/%2e", "/café/%2e"),
    ],
)
def test_path_cannot_forge_lines_or_control_terminals(target: str, path: str) -> None:
    assert logged(make_exchange(target=target))["path"] == path


def test_undecodable_text_in_any_field_still_gives_a_line() -> None:
    exchange = make_exchange()
    exchange.request_id = "id-\udcff"

    assert logged(exchange)["request_id"] == "id-%FF"


def test_long_client_text_is_cut() -> None:
    fields = logged(make_exchange(target="/" + "a" * 9000, headers={"User-Agent": "b" * 9000}))

    assert (len(fields["path"]), len(fields["user_agent"])) == (2048, 256)


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT), min_size=1, max_size=20))
def test_any_text_gives_one_valid_line_a_request(texts: list[tuple[str, str, str]]) -> None:
    exchanges = []
    for path, agent, request_id in texts:
        exchange = make_exchange(target=f"/{path}")
        exchange.request.headers = {"User-Agent": agent, "traceparent": agent}
        exchange.request_id, exchange.error = request_id, BadRequest(cause=agent)
        exchanges.append(exchange)

    lines = lines_of(*exchanges)

    assert len(lines) == len(texts)
    for line in lines:
        orjson.loads(line)
        assert min(line[:-1]) >= 0x20
        line.decode("utf-8")


@given(ANY_TEXT)
def test_printable_text_is_printable_and_keeps_what_was(text: str) -> None:
    shown = printable(text, 1000)

    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_log_that_is_off_does_nothing() -> None:
    log = open_access_log(None)

    log.record(make_exchange(), 200, 0.1)
    log.reopen()
    log.close()

    assert isinstance(log, NoAccessLog)
    assert log.dropped == 0


def test_log_file_can_be_rotated(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    log = open_access_log(str(file))

    file.rename(tmp_path / "old")
    log.reopen()
    log.record(make_exchange(), 200, 0.1)
    log.close()

    assert file.read_bytes().count(b"\n") == 1
    assert log.dropped == 0
