import orjson
import pytest

from proxy.errors import (
    ConnectionLimitReached,
    ConnectionRefused,
    InternalError,
    MethodNotAllowed,
    ProxyError,
    ResponseIncomplete,
)
from proxy.protocol.problem import problem_response, proxy_status, retry_after_seconds


def respond(error: ProxyError, accept: str | None = None) -> tuple[dict[bytes, bytes], bytes]:
    fields, body = problem_response(error, "4f2a", accept)
    assert len(dict(fields)) == len(fields)
    return dict(fields), body


def test_problem_says_what_happened_and_where() -> None:
    fields, body = respond(ConnectionLimitReached("All connections are busy.", retry_after=1.2))

    assert orjson.loads(body) == {
        "type": "urn:tidegate:problem:connection-limit-reached",
        "title": "Upstream Connection Limit Reached",
        "status": 503,
        "detail": "All connections are busy.",
        "policy": "upstream",
        "request_id": "4f2a",
        "retry_after": 2,
    }
    assert fields == {
        b"Content-Type": b"application/problem+json",
        b"Content-Length": b"%d" % len(body),
        b"Cache-Control": b"no-store",
        b"Proxy-Status": b'tidegate;error=connection_limit_reached;details="All connections are busy."',
        b"Retry-After": b"2",
    }


def test_problem_without_detail_repeats_its_title() -> None:
    fields, body = respond(ConnectionRefused())

    assert orjson.loads(body)["detail"] == "Bad Gateway"
    assert fields[b"Proxy-Status"] == b"tidegate;error=connection_refused"
    assert b"Retry-After" not in fields
    assert b"Allow" not in fields


def test_cause_is_not_for_the_client() -> None:
    fields, body = respond(InternalError(cause="secret"))

    assert b"secret" not in body + b"".join(fields.values())


def test_405_lists_the_methods() -> None:
    fields, _ = respond(MethodNotAllowed(allow="GET, HEAD"))

    assert fields[b"Allow"] == b"GET, HEAD"


def test_what_the_upstream_answered_is_told() -> None:
    expected = "tidegate;error=http_response_incomplete;received-status=200"

    assert proxy_status(ResponseIncomplete(), 200) == expected


@pytest.mark.parametrize(
    ("seconds", "whole"), [(-5, 1), (0, 1), (0.2, 1), (1, 1), (1.01, 2), (59.5, 60), (1e18, 31_536_000)]
)
def test_retry_after_is_rounded_up_and_bounded(seconds: float, whole: int) -> None:
    assert retry_after_seconds(seconds) == whole


@pytest.mark.parametrize(
    "accept",
    [
        *(None, "", "*/*", "text/html", "text/plain, image/*", "application/json;q=0.1", "*/*;q=0, application/json"),
        *("application/json;q=0, application/problem+json", "application/*;q=0.001", "text/html;q=0", "garbage;;;,,"),
    ],
)
def test_json_is_sent_unless_ruled_out(accept: str | None) -> None:
    fields, _ = respond(ConnectionRefused(), accept)

    assert fields[b"Content-Type"] == b"application/problem+json"


@pytest.mark.parametrize(
    "accept",
    ["application/json;q=0", "text/plain, */*;q=0", "Application/Problem+JSON; Q=0.000", "application/*; q=0 ;x=y"],
)
def test_client_that_rules_json_out_gets_one_line_of_text(accept: str) -> None:
    fields, body = respond(ConnectionRefused(), accept)

    assert body == b"502 Bad Gateway\n"
    assert fields[b"Content-Type"] == b"text/plain; charset=utf-8"
    assert fields[b"Content-Length"] == b"16"


def test_problem_as_text_says_when_to_come_back() -> None:
    fields, body = respond(ConnectionLimitReached(retry_after=1.2), "application/json;q=0")

    assert body == b"503 Upstream Connection Limit Reached\n"
    assert fields[b"Retry-After"] == b"2"
    assert fields[b"Content-Length"] == b"%d" % len(body)
