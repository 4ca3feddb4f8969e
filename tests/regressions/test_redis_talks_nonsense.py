"""A server that is no Redis, or a broken one, is one more way for Redis to be gone: it never shows in an answer."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.support.app import running_app
from tests.support.client import get
from tests.support.settings import policies
from tests.support.upstream import ScriptedUpstream

NONSENSE = [
    b":abc\r\n",
    b"$-5\r\n",
    b"*x\r\n",
    b"*1\r\n" * 5000,
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x00\xff\xfe\r\n",
    b"+OK\r\n",
    b":1\r\n",
    b"$-1\r\n",
    b"*0\r\n",
    b"*2\r\n:1\r\n$-1\r\n",
    b"*2\r\n:1\r\n+5\r\n",
    b"*2\r\n:1\r\n-ERR x\r\n",
    b"*3\r\n:1\r\n:5\r\n:6\r\n",
]


@contextlib.asynccontextmanager
async def server_that_says(answer: bytes, *, to_ping: bytes = b"+PONG\r\n") -> AsyncIterator[str]:
    """Its URL. Whatever it is asked but PING and SELECT, it says `answer`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                count = int((await reader.readline())[1:] or b"0")
                words = [await reader.readexactly(int((await reader.readline())[1:]) + 2) for _ in range(count)]
                if not words:
                    break
                known = {b"PING\r\n": to_ping, b"SELECT\r\n": b"+OK\r\n"}
                writer.write(known.get(words[0], answer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


def with_redis(text: str, url: str) -> str:
    return json.dumps({**json.loads(text), "redis": url})


@pytest.mark.parametrize("answer", NONSENSE, ids=lambda answer: str(answer[:16]))
async def test_nonsense_is_no_answer_and_the_limit_is_kept_without_it(answer: bytes) -> None:
    async with ScriptedUpstream() as upstream, server_that_says(answer) as url:
        file = with_redis(policies(upstream.url, route={"rate_limit": "5/day"}), url)
        async with running_app(file) as app:
            statuses = Counter([(await get(app.port, "/")).status for _ in range(8)])

        assert statuses == {200: 5, 429: 3}


async def test_nonsense_instead_of_pong_does_not_prevent_the_start() -> None:
    async with (
        ScriptedUpstream() as upstream,
        server_that_says(b":x\r\n", to_ping=b"*x\r\n") as url,
        running_app(with_redis(policies(upstream.url), url)) as app,
    ):
        assert (await get(app.port, "/")).status == 200
