"""Faults A08 to A11: bodies whose framing is broken, bloated, or where none is expected."""

import pytest

from tests.support.edge import MARK, SECOND, Edge, check_last, check_problem, request, running_edge

pytestmark = pytest.mark.both_loops

CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST_CHUNK = b"0\r\n\r\n"

BROKEN_CHUNKS = {
    "hex-prefix": b"0x2\r\nab\r\n",
    "negative": b"-1\r\nab\r\n",
    "plus": b"+2\r\nab\r\n",
    "space-after": b"2 \r\nab\r\n",
    "space-before": b" 2\r\nab\r\n",
    "17-digits": b"1" * 17 + b"\r\nab\r\n",
    "underscore": b"2_0\r\nab\r\n",
    "empty": b"\r\nab\r\n",
    "no-hex": b"zq7\r\nab\r\n",
    "data-longer": b"2\r\nabc\r\n",
    "data-shorter": b"4\r\nab\r\n",
    "no-crlf-after-data": b"2\r\nab",
    "control-byte-in-extension": b"2;a=\0\r\nab\r\n",
}


@pytest.mark.parametrize("chunk", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
async def test_a08_broken_chunk_in_a_whole_message_never_leaves(chunk: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(CHUNKED, chunk + LAST_CHUNK), 400)


@pytest.mark.parametrize("chunk", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
async def test_a08_broken_chunk_behind_a_good_one_ends_the_upload_visibly(chunk: bytes) -> None:
    async with running_edge() as edge:
        await _break_upload(edge, chunk + LAST_CHUNK + SECOND)


async def test_a08_body_that_breaks_before_its_first_byte_is_answered_at_once() -> None:
    async with running_edge() as edge, edge.client() as client:
        await client.send(request(b"Expect: 100-continue\r\n" + CHUNKED))
        await client.wire.read_until(b"100 Continue\r\n\r\n")
        await client.send(b"zq7\r\n")
        response = await client.read_response()
        await check_last(client, response)

    check_problem(response, 400)
    assert edge.upstream.requests == []


# --- A09: framing without content ---
# No more is sent than it takes: what is left unread when the connection ends would turn the FIN into a reset.


async def test_a09_one_extension_without_end_is_cut_off() -> None:
    async with running_edge() as edge:
        await _break_upload(edge, b"1;" + b"x" * (64 * 1024 + 40))


async def test_a09_small_chunks_with_large_extensions_are_cut_off() -> None:
    async with running_edge() as edge:
        await _break_upload(edge, (b"1;" + b"x" * 8206 + b"\r\na\r\n") * 8)


async def test_a09_small_chunks_without_extensions_are_let_through() -> None:
    async with running_edge() as edge:
        received = await edge.passes(request(CHUNKED, b"1\r\na\r\n" * 40_000 + LAST_CHUNK), pipelined=False)

    assert received.body == b"a" * 40_000


# --- A10: trailers ---

TRAILERS = {
    "content-length": b"Content-Length: 5\r\n",
    "transfer-encoding": b"Transfer-Encoding: chunked\r\n",
    "host": b"Host: evil.example\r\n",
    "200-fields": b"".join(b"T%d: zq7\r\n" % number for number in range(200)),
    "fold": b"X: a\r\n b\r\n",
    "space-before-colon": b"X : a\r\n",
    "no-colon": b"zq7\r\n",
    "long": b"X: " + MARK * 10_000 + b"\r\n",
}


@pytest.mark.parametrize("trailer", TRAILERS.values(), ids=TRAILERS)
async def test_a10_trailers_about_framing_or_without_measure_are_refused(trailer: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(CHUNKED, b"2\r\nab\r\n0\r\n" + trailer + b"\r\n"), 400, 431)


@pytest.mark.parametrize("pipelined", [True, False])
@pytest.mark.parametrize("name", [b"Authorization", b"X-Forwarded-For", b"X-Tenant"])
async def test_a10_other_trailers_are_dropped_and_reach_no_later_request(name: bytes, pipelined: bool) -> None:
    body = b"2\r\nab\r\n0\r\nX-First: zq7\r\n" + name + b": zq7\r\n\r\n"

    async with running_edge() as edge:
        received = await edge.passes(request(CHUNKED, body), pipelined=pipelined, ends=True)

    assert (received.body, received.trailers, received.header("Trailer")) == (b"ab", [], None)
    assert received.header(name.decode()) != "zq7"
    assert bytes(received.raw).count(MARK) == 2, "in the target and in X-Mark"


async def test_a10_trailers_that_arrive_late_reach_no_later_request() -> None:
    async with running_edge() as edge, edge.client() as client:
        await client.send(request(CHUNKED, b"2\r\nab\r\n"))
        await edge.upstream.wait_until(lambda: [each.body for each in edge.upstream.requests[:1]] == [b"ab"])
        await client.send(b"0\r\nAuthorization: zq7\r\n\r\n" + SECOND)
        response = await client.read_response()
        await check_last(client, response)

    assert (response.status, len(edge.upstream.requests)) == (200, 1)


# --- A11: a body where none is expected ---


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a11_body_of_a_bodiless_method_stays_a_body(method: str, framing: str) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nHost: api.example\r\n\r\n"
    if framing == "length":
        raw = request(b"Content-Length: %d\r\n" % len(hidden), hidden, method=method)
    else:
        raw = request(CHUNKED, b"%x\r\n%b\r\n" % (len(hidden), hidden) + LAST_CHUNK, method=method)

    async with running_edge() as edge:
        received = await edge.passes(raw, pipelined=framing == "length")

    assert (received.method, received.body, received.is_chunked) == (method, hidden, framing == "chunked")
    assert edge.upstream.requests[1].connection == 2, "a server that ignores such a body would take it for a request"


async def test_a11_length_of_nothing_is_passed_on() -> None:
    async with running_edge() as edge:
        received = await edge.passes(request(b"Content-Length: 0\r\n", method="GET"))

    assert received.header("Content-Length") == "0"


async def _break_upload(edge: Edge, rest: bytes) -> None:
    """Send one good chunk, then `rest` once it is at the upstream: 400 for the client, no whole request up there."""
    upstream = edge.upstream
    async with edge.client() as client:
        await client.send(request(CHUNKED, b"2\r\nab\r\n"))
        await upstream.wait_until(lambda: bool(upstream.requests and upstream.requests[0].body == b"ab"))
        await client.send(rest)
        response = await client.read_response()
        await check_last(client, response)

    check_problem(response, 400)
    await upstream.wait_closed(1)
    assert [(each.target, each.complete) for each in upstream.requests] == [("/zq7", False)]
    await edge.is_sound()
