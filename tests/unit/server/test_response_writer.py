"""What is encoded already is written exactly as it would be without."""

import re
from collections.abc import Callable

import pytest

from proxy.exchange import Exchange, Response
from proxy.policies.caching.delivery import Delivery
from proxy.protocol.caching.stored import StoredResponse
from proxy.protocol.headers import HeaderEditor
from proxy.server.response_writer import ResponseWriter
from tests.support.exchange import make_exchange
from tests.support.stored import BORN, make_stored

RawFields = list[tuple[bytes, bytes]]
Change = Callable[[Response], None]

WRITER = ResponseWriter(b"1.1 tidegate-1")
DATE = re.compile(rb"\r\nDate: [^\r]+")
STORED = [
    make_stored(b"0123456789", [("Content-Type", "text/plain"), ("ETag", '"a"')]),
    make_stored(b"", [("X-A", "1"), ("X-A", "2")], reason=b"Fine"),
    make_stored(b"gone", [("X-Request-ID", "theirs")], status=410),
    make_stored(b"", status=204),
    make_stored(b"x" * 100_000, [("Via", "1.1 origin"), ("X-Empty", "")]),
]


def nothing(response: Response) -> None:
    return


def limits_added(response: Response) -> None:
    response.headers = [*response.headers, (b"RateLimit-Policy", b'"r";q=1'), (b"RateLimit", b'"r";r=1')]


def id_added(response: Response) -> None:
    response.headers = [*response.headers, (b"X-Request-Id", b"theirs"), (b"X-Last", b"1")]


def appended_in_place(response: Response) -> None:
    response.headers.append((b"X-Last", b"1"))


def changed_in_place(response: Response) -> None:
    response.headers[0] = (b"Date", b"never")


def shortened_in_place(response: Response) -> None:
    del response.headers[1]


def inserted_in_place(response: Response) -> None:
    response.headers.insert(0, (b"X-First", b"1"))


def emptied(response: Response) -> None:
    response.headers = []


def reversed_order(response: Response) -> None:
    response.headers = response.headers[::-1]


def status_changed(response: Response) -> None:
    response.status = 503


def reason_changed(response: Response) -> None:
    response.reason = b"Other"


def edited(response: Response) -> None:
    response.headers = HeaderEditor({"X-Frame-Options": "DENY"}, ["date", "age"]).apply(response.headers)
    response.withheld = frozenset({b"date", b"age", b"via", b"x-request-id"})


def only_set(response: Response) -> None:
    response.headers = HeaderEditor({"X-Frame-Options": "DENY"}, []).apply(response.headers)


def as_tuple(response: Response) -> None:
    response.headers = tuple(response.headers)  # type: ignore[assignment]


CHANGES: list[Change] = [
    nothing,
    limits_added,
    id_added,
    appended_in_place,
    changed_in_place,
    shortened_in_place,
    inserted_in_place,
    emptied,
    reversed_order,
    status_changed,
    reason_changed,
    edited,
    only_set,
    as_tuple,
]


def written(exchange: Exchange, response: Response, *, keep_alive: bool) -> bytes:
    assert isinstance(response.body, bytes)
    return DATE.sub(b"\r\nDate: now", WRITER.whole(exchange, response, response.body, keep_alive=keep_alive))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stored", STORED, ids=["plain", "reason", "request id", "204", "large"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("version", "keep_alive"), [((1, 1), True), ((1, 1), False), ((1, 0), True)])
def test_encoded_bytes_are_those_of_the_slow_way(
    change: Change, stored: StoredResponse, method: str, version: tuple[int, int], keep_alive: bool
) -> None:
    exchange = make_exchange(method, "/")
    exchange.request.version = version
    exchange.request_id = "ours"
    fast = Delivery(stored).fresh_get(BORN + 7)
    slow = Delivery(stored).fresh_get(BORN + 7)
    slow.encoded = None
    change(fast)
    change(slow)

    assert fast.encoded is not None
    assert written(exchange, fast, keep_alive=keep_alive) == written(exchange, slow, keep_alive=keep_alive)


def test_a_change_for_one_answer_does_not_show_in_the_next() -> None:
    delivery = Delivery(STORED[0])
    exchange = make_exchange()
    before = written(exchange, delivery.fresh_get(BORN), keep_alive=True)
    for change in CHANGES:
        change(delivery.fresh_get(BORN))

    assert written(exchange, delivery.fresh_get(BORN), keep_alive=True) == before


def test_a_written_hit_is_a_whole_message() -> None:
    exchange = make_exchange()
    exchange.request_id = "ours"

    assert written(exchange, Delivery(make_stored(b"body")).fresh_get(BORN + 2), keep_alive=True) == (
        b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 4\r\nAge: 2\r\nCache-Status: tidegate;hit;ttl=58\r\n"
        b"Via: 1.1 tidegate-1\r\nX-Request-ID: ours\r\n\r\nbody"
    )
    assert exchange.bytes_out == 4
