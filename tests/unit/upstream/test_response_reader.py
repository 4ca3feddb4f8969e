"""The reader alone: the same bytes give the same response however they are cut."""

import pytest

from proxy.errors import ConnectionTerminated, ProxyError, ResponseHeadTooLarge, ResponseIncomplete
from proxy.protocol.response_checks import MAX_RESPONSE_HEAD
from proxy.upstream.response_reader import MAX_INTERIM, ResponseReader

SIZED = b"HTTP/1.1 200 OK\r\nX-Name: value\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;ext=1\r\nllo\r\n0\r\nT: 1\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"


def read(reader: ResponseReader, data: bytes, size: int) -> tuple[int, bytes, list[tuple[bytes, bytes]], bytes]:
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    assert reader.complete
    assert reader.head is not None
    return reader.status, reader.reason, reader.head.fields, b"".join(reader.take())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_cuts_make_no_difference(size: int) -> None:
    reader = ResponseReader()
    assert read(reader, SIZED, size) == (200, b"OK", [(b"X-Name", b"value"), (b"Content-Length", b"5")], b"hello")
    assert reader.reusable
    reader.start("GET")
    assert read(reader, CHUNKED, size) == (201, b"Made", [], b"hello")
    assert reader.reusable
    reader.start("GET")
    assert read(reader, INTERIM * 3 + SIZED, size)[:2] == (200, b"OK")
    reader.start("GET")
    assert read(reader, EMPTY, size) == (204, b"No Content", [(b"X", b"1")], b"")


@pytest.mark.parametrize("head", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X: 1"])
def test_parser_starts_anew_after_head(head: bytes) -> None:
    reader = ResponseReader()
    reader.start("HEAD")
    assert read(reader, b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", 1)[3] == b""
    assert reader.reusable
    reader.start("GET")
    assert read(reader, SIZED, 1)[3] == b"hello"


@pytest.mark.parametrize("surplus", [b"x", SIZED, b"HTTP/1.1", b"0\r\n\r\n"])
@pytest.mark.parametrize("response", [SIZED, CHUNKED, EMPTY])
def test_bytes_behind_the_end_spoil_the_connection_and_nothing_else(response: bytes, surplus: bytes) -> None:
    reader = ResponseReader()
    clean = read(ResponseReader(), response, 1000)
    assert read(reader, response + surplus, 1000) == clean
    assert not reader.reusable


def test_end_before_any_byte_is_told_from_an_end_within() -> None:
    reader = ResponseReader()
    reader.start("GET")
    assert reader.is_untouched
    reader.feed(b"H")
    assert not reader.is_untouched
    with pytest.raises(ConnectionTerminated):
        reader.end(reset=False)


@pytest.mark.parametrize("reset", [True, False])
def test_end_within_a_sized_body(reset: bool) -> None:
    reader = ResponseReader()
    reader.feed(SIZED[:-1])
    with pytest.raises(ResponseIncomplete):
        reader.end(reset=reset)
    assert not reader.complete


def test_end_of_a_body_without_length() -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\nall")
    assert not reader.complete
    with pytest.raises(ResponseIncomplete):
        reader.end(reset=True)
    reader.end(reset=False)
    assert (reader.complete, reader.reusable, reader.take()) == (True, False, [b"all"])


def test_interim_responses_are_counted_per_request() -> None:
    reader = ResponseReader()
    for _ in range(2):
        reader.start("GET")
        assert read(reader, INTERIM * MAX_INTERIM + EMPTY, 1000)[0] == 204
    reader.start("GET")
    with pytest.raises(ProxyError):
        reader.feed(INTERIM * (MAX_INTERIM + 1))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_interim_responses_are_passed_on_in_their_order(size: int) -> None:
    passed: list[tuple[int, list[tuple[bytes, bytes]]]] = []
    reader = ResponseReader(lambda status, fields: passed.append((status, fields)))
    heads = [
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nTE: a\r\nConnection: y\r\nY: 1\r\nContent-Length: 5\r\n\r\n",
        INTERIM,
    ]
    reader.start("GET")
    assert read(reader, b"".join(heads) + SIZED, size)[2:] == (
        [(b"X-Name", b"value"), (b"Content-Length", b"5")],
        b"hello",
    )
    assert passed == [(102, []), (103, [(b"Link", b"</x>")]), (103, [(b"Link", b"</x>")])]


def test_switch_of_protocols_is_no_interim_response() -> None:
    passed: list[int] = []
    reader = ResponseReader(lambda status, fields: passed.append(status))
    reader.start("GET", upgrade=True)
    reader.feed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n")
    assert (reader.status, passed) == (101, [])


def test_large_body_in_the_same_read_as_the_head_is_no_large_head() -> None:
    reader = ResponseReader()
    body = b"x" * (MAX_RESPONSE_HEAD * 2)
    assert read(reader, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, len(body) * 2)[3] == body


def test_head_over_the_limit_is_refused_as_soon_as_it_is_over() -> None:
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nX: " + b"a" * (MAX_RESPONSE_HEAD - 100))
    with pytest.raises(ResponseHeadTooLarge):
        reader.feed(b"a" * 200)


def test_switch_gives_the_bytes_behind_it() -> None:
    reader = ResponseReader()
    reader.start("GET", upgrade=True)
    reader.feed(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nraw\x00bytes")
    assert (reader.complete, reader.surplus, reader.reusable) == (True, b"raw\x00bytes", False)
