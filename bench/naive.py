"""The proxy everybody writes first: aiohttp's Application in front of its ClientSession, on uvloop, with a log."""

import logging
import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
SESSION = web.AppKey("session", aiohttp.ClientSession)
ORIGIN = web.AppKey("origin", str)


async def proxy(request: web.Request) -> web.StreamResponse:
    """Ask the origin the same and copy its answer."""
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
    async with request.app[SESSION].request(
        request.method,
        request.app[ORIGIN] + request.raw_path,
        headers=headers,
        data=request.content if request.can_read_body else None,
        allow_redirects=False,
    ) as upstream:
        kept = {name: value for name, value in upstream.headers.items() if name.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=upstream.status, headers=kept)
        await response.prepare(request)
        async for piece in upstream.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def session(app: web.Application) -> AsyncIterator[None]:
    """One session for the life of the process, with as many connections as its peers may open."""
    connector = aiohttp.TCPConnector(limit=256)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as app[SESSION]:
        yield


def main() -> None:
    """Arguments: port to listen on, port of the origin, file of the access log."""
    listen, origin, log = sys.argv[1:]
    logging.basicConfig(filename=log, level=logging.INFO, format="%(message)s")
    app = web.Application()
    app[ORIGIN] = f"http://127.0.0.1:{origin}"
    app.cleanup_ctx.append(session)
    app.add_routes([web.route("*", path, proxy) for path in ("/items", "/items/{id}", "/large")])
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(listen), print=None, loop=loop, shutdown_timeout=1)


if __name__ == "__main__":
    main()
