"""What is sent of a stored response (RFC 9111 section 4, RFC 9110 sections 13 to 15)."""

from collections.abc import Sequence

import pytest

from proxy.exchange import Exchange, Response
from proxy.policies.caching.delivery import Delivery, deliver
from proxy.protocol.caching.stored import Part, StoredResponse
from proxy.protocol.dates import format_http_date
from proxy.protocol.fields import KINDS
from tests.support.exchange import make_exchange
from tests.support.messages import HeadersLike
from tests.support.stored import BORN, make_stored

STATUS = b"tidegate; hit"
NOW = BORN + 7.9
CHANGED = BORN - 3600
BODY = b"0123456789"


def asking(headers: HeadersLike = (), method: str = "GET") -> Exchange:
    exchange = make_exchange(method, "/", headers)
    for name, _ in exchange.request.fields.raw:
        exchange.request.fields.kinds |= KINDS[name]
    return exchange


def answer_of(stored: StoredResponse, headers: HeadersLike = (), method: str = "GET") -> Response:
    response = deliver(asking(headers, method), stored, NOW, STATUS)
    assert response is not None
    return response


def names_of(response: Response) -> list[bytes]:
    return [name for name, _ in response.headers]


def values_of(response: Response, wanted: bytes) -> list[bytes]:
    return [value for name, value in response.headers if name == wanted]


def test_a_get_has_all_of_it_with_its_age() -> None:
    stored = make_stored(BODY, [("X-A", "1"), ("X-A", "2")], reason=b"Fine")

    response = answer_of(stored)

    assert (response.status, response.reason, response.body) == (200, b"Fine", BODY)
    assert response.headers == [
        *stored.fields,
        (b"Content-Length", b"10"),
        (b"Age", b"7"),
        (b"Cache-Status", STATUS),
    ]


def test_a_head_has_the_length_and_no_body() -> None:
    response = answer_of(make_stored(BODY), method="HEAD")

    assert response.body == b""
    assert values_of(response, b"Content-Length") == [b"10"]


@pytest.mark.parametrize("status", [203, 301, 404, 410, 501])
def test_other_statuses_are_sent_as_they_are(status: int) -> None:
    response = answer_of(make_stored(BODY, status=status), [("Range", "bytes=0-1")])

    assert (response.status, response.body) == (status, BODY)


def test_a_204_has_no_length() -> None:
    assert b"Content-Length" not in names_of(answer_of(make_stored(b"", status=204)))


def test_validated_for_this_request_it_has_no_age() -> None:
    response = deliver(asking(), make_stored(), NOW, STATUS, shows_age=False)

    assert response is not None
    assert names_of(response)[-2:] == [b"Content-Length", b"Cache-Status"]


def test_what_caches_before_us_said_comes_first() -> None:
    response = answer_of(make_stored(headers=[("Cache-Status", "origin; hit")]))

    assert values_of(response, b"Cache-Status") == [b"origin; hit", STATUS]


# --- 304 ---

FIELDS = [
    ("Content-Type", "text/plain"),
    ("Content-Encoding", "gzip"),
    ("Content-Location", "/x"),
    ("Cache-Control", "max-age=60"),
    ("CDN-Cache-Control", "max-age=90"),
    ("Expires", "0"),
    ("Vary", "Accept"),
    ("Set-Cookie", "a=b"),
    ("Server", "s"),
    ("Access-Control-Allow-Origin", "*"),
]
CARRIED = [
    b"Content-Location",
    b"Cache-Control",
    b"CDN-Cache-Control",
    b"Expires",
    b"Vary",
    b"Access-Control-Allow-Origin",
    b"Age",
    b"Cache-Status",
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified_has_the_fields_that_guide_a_cache(method: str) -> None:
    stored = make_stored(BODY, FIELDS, etag=b'"a"', last_modified=CHANGED)

    response = answer_of(stored, [("If-None-Match", '"a"')], method)

    assert (response.status, response.body) == (304, b"")
    assert names_of(response) == [b"Date", b"ETag", *CARRIED]
    assert values_of(response, b"Age") == [b"7"]


def test_without_etag_it_has_last_modified() -> None:
    stored = make_stored(BODY, FIELDS, last_modified=CHANGED)

    response = answer_of(stored, [("If-Modified-Since", format_http_date(CHANGED).decode())])

    assert response.status == 304
    assert names_of(response) == [b"Date", b"Last-Modified", *CARRIED]


def test_a_condition_comes_before_the_range() -> None:
    fields = [("Range", "bytes=0-1"), ("If-None-Match", '"a"'), ("If-Range", '"b"')]

    assert answer_of(make_stored(etag=b'"a"'), fields).status == 304


@pytest.mark.parametrize("fields", [[("If-None-Match", '"b"')], [("If-Match", '"b"')], [("If-Unmodified-Since", "0")]])
def test_a_condition_that_asks_for_nothing_else_gets_the_whole(fields: Sequence[tuple[str, str]]) -> None:
    assert answer_of(make_stored(etag=b'"a"'), fields).status == 200


# --- 206 and 416 ---


@pytest.mark.parametrize(
    ("value", "content_range", "body"),
    [
        ("bytes=0-1", b"bytes 0-1/10", b"01"),
        ("bytes=8-", b"bytes 8-9/10", b"89"),
        ("bytes=-3", b"bytes 7-9/10", b"789"),
        ("bytes=0-", b"bytes 0-9/10", BODY),
        ("bytes=1-2,2-3", b"bytes 1-3/10", b"123"),
        ("bytes=1-2,50-", b"bytes 1-2/10", b"12"),
    ],
)
def test_one_range_is_a_206_with_all_fields(value: str, content_range: bytes, body: bytes) -> None:
    stored = make_stored(BODY, FIELDS, etag=b'"a"', reason=b"Fine")

    response = answer_of(stored, [("Range", value)])

    assert (response.status, response.reason, response.body) == (206, b"", body)
    assert response.headers == [
        *stored.fields,
        (b"Content-Range", content_range),
        (b"Content-Length", b"%d" % len(body)),
        (b"Age", b"7"),
        (b"Cache-Status", STATUS),
    ]


def test_several_ranges_are_a_multipart() -> None:
    response = answer_of(make_stored(BODY, [("Content-Type", "text/plain")]), [("Range", "bytes=7-8,0-1")])

    assert isinstance(response.body, bytes)
    content_type = values_of(response, b"Content-Type")
    boundary = content_type[0].partition(b"boundary=")[2]
    assert len(content_type) == 1
    assert content_type[0].startswith(b"multipart/byteranges; ")
    assert b"Content-Range" not in names_of(response)
    assert values_of(response, b"Content-Length") == [b"%d" % len(response.body)]
    assert response.body.split(b"--" + boundary) == [
        b"",
        b"\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-8/10\r\n\r\n78\r\n",
        b"\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n",
        b"--\r\n",
    ]


@pytest.mark.parametrize(
    "headers",
    [
        [("Range", "items=0-1")],
        [("Range", "bytes=5-1")],
        [("Range", "bytes=0-4,5-9")],
        [("Range", "bytes=0-1"), ("Range", "bytes=0-1")],
        [("Range", "bytes=0-1"), ("If-Range", '"b"')],
        [("Range", "bytes=50-"), ("If-Range", '"b"')],
        [("If-Range", '"a"')],
    ],
)
def test_a_range_that_does_not_hold_gets_the_whole(headers: HeadersLike) -> None:
    response = answer_of(make_stored(BODY, etag=b'"a"'), headers)

    assert (response.status, response.body) == (200, BODY)


def test_a_head_has_no_ranges() -> None:
    response = answer_of(make_stored(BODY), [("Range", "bytes=0-1")], "HEAD")

    assert (response.status, values_of(response, b"Content-Length")) == (200, [b"10"])


def test_with_if_range_the_client_has_the_other_fields() -> None:
    stored = make_stored(BODY, FIELDS, etag=b'"a"', last_modified=CHANGED)

    response = answer_of(stored, [("Range", "bytes=0-1"), ("If-Range", '"a"')])

    assert response.status == 206
    assert {b"Content-Type", b"Content-Encoding"}.isdisjoint(names_of(response))
    assert {b"Date", b"ETag", b"Cache-Control", b"Content-Location", b"Expires", b"Vary"} <= set(names_of(response))


def test_a_range_beyond_the_end_is_a_416() -> None:
    response = answer_of(make_stored(BODY, FIELDS, etag=b'"a"'), [("Range", "bytes=10-")])

    assert (response.status, response.body) == (416, b"")
    assert response.headers == [
        (b"Access-Control-Allow-Origin", b"*"),
        (b"Content-Range", b"bytes */10"),
        (b"Content-Length", b"0"),
        (b"Age", b"7"),
        (b"Cache-Status", STATUS),
    ]


# --- a stored part ---

PART = make_stored(b"3456", [("Content-Type", "text/plain")], etag=b'"a"', part=Part(3, 10))


@pytest.mark.parametrize(
    ("value", "content_range", "body"),
    [
        ("bytes=3-6", b"bytes 3-6/10", b"3456"),
        ("bytes=4-5", b"bytes 4-5/10", b"45"),
        ("bytes=5-5, 6-6", b"bytes 5-6/10", b"56"),
    ],
)
def test_a_part_answers_what_is_inside_it(value: str, content_range: bytes, body: bytes) -> None:
    response = answer_of(PART, [("Range", value)])

    assert (response.status, response.body) == (206, body)
    assert values_of(response, b"Content-Range") == [content_range]


def test_a_part_answers_several_ranges() -> None:
    response = answer_of(PART, [("Range", "bytes=3-3,5-5")])

    assert isinstance(response.body, bytes)
    assert b"Content-Range: bytes 5-5/10\r\n\r\n5\r\n" in response.body


def test_a_part_knows_what_is_beyond_the_end() -> None:
    assert values_of(answer_of(PART, [("Range", "bytes=10-")]), b"Content-Range") == [b"bytes */10"]


def test_a_part_validates() -> None:
    assert answer_of(PART, [("If-None-Match", '"a"')]).status == 304


@pytest.mark.parametrize(
    ("headers", "method"),
    [
        ([], "GET"),
        ([], "HEAD"),
        ([("Range", "bytes=3-5")], "HEAD"),
        ([("Range", "bytes=2-5")], "GET"),
        ([("Range", "bytes=3-7")], "GET"),
        ([("Range", "bytes=0-")], "GET"),
        ([("Range", "bytes=3-3,8-8")], "GET"),
        ([("Range", "bytes=3-5"), ("If-Range", '"b"')], "GET"),
        ([("Range", "items=3-5")], "GET"),
        ([("If-None-Match", '"b"')], "GET"),
    ],
)
def test_a_part_is_no_answer_to_anything_else(headers: HeadersLike, method: str) -> None:
    assert deliver(asking(headers, method), PART, NOW, STATUS) is None


def test_a_part_that_is_all_of_it_is_a_whole_response() -> None:
    response = answer_of(make_stored(BODY, part=Part(0, 10)))

    assert (response.status, response.body) == (200, BODY)


# --- the fast path ---


@pytest.mark.parametrize("now", [BORN, BORN + 0.5, BORN + 7.9, BORN + 59.999, BORN - 5])
def test_a_delivery_sends_what_the_slow_way_does(now: float) -> None:
    stored = make_stored(BODY, FIELDS, reason=b"Fine")
    fast = Delivery(stored).fresh_get(now)

    slow = deliver(asking(), stored, now, values_of(fast, b"Cache-Status")[0])

    assert slow is not None
    assert (fast.status, fast.reason, fast.headers, fast.body) == (slow.status, slow.reason, slow.headers, slow.body)


def test_a_delivery_grows_older() -> None:
    delivery = Delivery(make_stored(lifetime=60))

    seen = [delivery.fresh_get(BORN + after).headers[-2:] for after in (0.0, 0.9, 1.0, 1.5, 59.0, 3.0)]

    assert [(age, status.partition(b"ttl=")[2]) for (_, age), (_, status) in seen] == [
        (b"0", b"60"),
        (b"0", b"60"),
        (b"1", b"59"),
        (b"1", b"59"),
        (b"59", b"1"),
        (b"3", b"57"),
    ]


def test_answers_of_one_delivery_do_not_share_their_fields() -> None:
    delivery = Delivery(make_stored())
    first = delivery.fresh_get(NOW)
    expected = list(first.headers)
    first.headers.append((b"X-Mine", b"1"))

    assert delivery.fresh_get(NOW).headers == expected
