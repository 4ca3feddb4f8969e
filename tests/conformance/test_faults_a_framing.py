"""Faults A01 to A07: heads that leave in doubt where the message ends are refused, and the connection with them."""

import pytest

from tests.support.edge import request, running_edge

pytestmark = pytest.mark.both_loops

LAST_CHUNK = b"0\r\n\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"content-length: 5\r\ntRANSFER-ENCODING: CHUNKED\r\n",
        b"Content-Length: 5\r\nX: y\r\nTransfer-Encoding: Chunked\r\n",
        b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    ],
)
async def test_a01_two_framings_are_refused(fields: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(fields, LAST_CHUNK), 400)


@pytest.mark.parametrize(
    "value",
    [
        *(b"2, 2", b"2,3", b"+2", b"-1", b"0x2", b"1_0", b"00", b"007", b"", b" ", b"1" * 30, b"2 2", b"2\x0b", b"2.0"),
        *(b"18446744073709551618", b"\xc2\xb2", b"2;", b"'2'"),
    ],
)
async def test_a02_content_length_other_than_a_plain_number_is_refused(value: bytes) -> None:
    async with running_edge() as edge:
        # 501: the parser takes `00` and `007` for numbers, and then finds no method behind the body.
        await edge.refuses(request(b"Content-Length: " + value + b"\r\n", b"ab"), 400, 501)


async def test_a02_leading_zeros_are_refused_where_nothing_else_is_wrong() -> None:
    async with running_edge() as edge:
        await edge.refuses(request(b"Content-Length: 002\r\n", b"ab"), 400)


@pytest.mark.parametrize("other", [b"2", b"3"], ids=["same", "different"])
async def test_a02_repeated_content_length_is_refused(other: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(b"Content-Length: 2\r\nContent-Length: " + other + b"\r\n", b"ab"), 400)


@pytest.mark.parametrize("line", [b"Content-Length:2", b"Content-Length:\t 2 \t"])
async def test_a02_white_space_around_content_length_is_not_passed_on(line: bytes) -> None:
    async with running_edge() as edge:
        received = await edge.passes(request(line + b"\r\n", b"ab"))

    assert received.header_list("Content-Length") == ["2"]
    assert received.body == b"ab"


@pytest.mark.parametrize(
    "line",
    [
        *(b"Transfer-Encoding: xchunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, identity"),
        *(b"Transfer-Encoding: chunked,chunked", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: chunked;p"),
        *(b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding: \xc2\xa0chunked"),
        *(b"Transfer-Encoding: ,chunked", b'Transfer-Encoding: "chunked"', b"Transfer-Encoding: chunked,"),
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        *(b"Transfer_Encoding: chunked", b" Transfer-Encoding: chunked", b"\x00Transfer-Encoding: chunked"),
    ],
)
async def test_a03_other_spellings_of_chunked_are_refused(line: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(line + b"\r\n", LAST_CHUNK), 400, 501)


@pytest.mark.parametrize("line", [b"Transfer-Encoding:", b"Transfer-Encoding: \t"])
async def test_a04_empty_transfer_encoding_is_refused(line: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(line + b"\r\n", LAST_CHUNK), 400)


@pytest.mark.parametrize("value", [b"gzip, chunked", b"gzip,chunked", b"deflate, br , Chunked"])
async def test_a05_other_transfer_codings_are_not_implemented(value: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(b"Transfer-Encoding: " + value + b"\r\n", LAST_CHUNK), 501)


@pytest.mark.parametrize("fields", [b"", b"Connection: keep-alive\r\n"])
async def test_a06_transfer_encoding_on_http_1_0_is_refused(fields: bytes) -> None:
    head = b"POST /zq7 HTTP/1.0\r\nHost: api.example\r\n" + fields + b"Transfer-Encoding: chunked\r\n\r\n"

    async with running_edge() as edge:
        await edge.refuses(head + LAST_CHUNK, 400)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET /zq7 HTTP/1.1\nHost: api.example\r\n\r\n", id="request-line"),
        pytest.param(b"GET /zq7 HTTP/1.1\r\nHost: api.example\nX: y\r\n\r\n", id="header-line"),
        pytest.param(b"GET /zq7 HTTP/1.1\r\nHost: api.example\r\n\n", id="end-of-head"),
        pytest.param(b"GET /zq7 HTTP/1.1\r\rHost: api.example\r\n\r\n", id="bare-cr-in-request-line"),
    ],
)
async def test_a07_bare_line_ends_in_a_head_are_refused(raw: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(raw, 400)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"2\nab\r\n0\r\n\r\n", id="chunk-size"),
        pytest.param(b"2;a=b\nab\r\n0\r\n\r\n", id="chunk-extension"),
        pytest.param(b"2\r\nab\n0\r\n\r\n", id="chunk-data"),
        pytest.param(b"2\r\nab\r\n0\r\nX: y\n\r\n", id="trailer"),
        pytest.param(b"2\r\nab\r\n0\r\n\n", id="end-of-trailers"),
        pytest.param(b"2\r\nab\r\n0\n\r\n", id="last-chunk"),
        pytest.param(b"2\rX\nab\r\n0\r\n\r\n", id="bare-cr"),
    ],
)
async def test_a07_bare_line_ends_in_a_body_are_refused(body: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(b"Transfer-Encoding: chunked\r\n", body), 400)


@pytest.mark.parametrize("byte", [b"\r", b"\0", b"\x01", b"\x0b", b"\x1b", b"\x7f"])
async def test_a07_control_bytes_in_a_value_are_refused(byte: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(b"X: a" + byte + b"b\r\n", method="GET"), 400)
