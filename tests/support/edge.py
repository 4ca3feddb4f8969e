"""The edge between a raw client and a scripted upstream, and what must hold of all that it refuses or passes on."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, get
from tests.support.messages import ReceivedRequest, Response
from tests.support.settings import policies
from tests.support.upstream import ScriptedUpstream

MARK = b"zq7"
"""Stands in what clients send; must never come back in an answer that the edge makes."""
SECOND = b"GET /second HTTP/1.1\r\nHost: api.example\r\n\r\n"
"""The request that every attack would like to hide, or to have answered wrongly."""


def request(fields: bytes = b"", body: bytes = b"", *, method: str = "POST", target: str = "/zq7") -> bytes:
    """A request with these field lines after a valid Host, and whatever else goes wrong."""
    line = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
    return line + b"Host: api.example\r\nX-Mark: zq7\r\n" + fields + b"\r\n" + body


class Edge:
    """A running app in front of a scripted upstream."""

    def __init__(self, app: RunningApp, upstream: ScriptedUpstream) -> None:
        self.app = app
        self.upstream = upstream
        self.port = app.port

    def client(self) -> RawClient:
        return RawClient(self.port)

    async def refuses(self, raw: bytes, *statuses: int) -> Response:
        """`raw` and a second request behind it: one problem answer, FIN, and the upstream hears of neither."""
        before = len(self.upstream.requests)
        async with self.client() as client:
            await client.send(raw + SECOND)
            response = await client.read_response()
            await check_last(client, response)
        check_problem(response, *statuses)
        assert self.upstream.requests[before:] == []
        await self.is_sound()
        return response

    async def refuses_but_goes_on(self, raw: bytes, *statuses: int) -> Response:
        """`raw` is answered with a problem, and the request behind it in the ordinary way."""
        before = len(self.upstream.requests)
        async with self.client() as client:
            await client.send(raw + SECOND)
            response = await client.read_response()
            second = await client.read_response()
        check_problem(response, *statuses)
        assert second.status == 200
        assert [each.target for each in self.upstream.requests[before:]] == ["/second"]
        return response

    async def passes(self, raw: bytes, *, ends: bool = False, pipelined: bool = True) -> ReceivedRequest:
        """What reached the upstream; a second request behind it does so too, or the connection `ends` before."""
        method = raw.split(maxsplit=1)[0].decode("latin-1")
        before = len(self.upstream.requests)
        async with self.client() as client:
            await client.send(raw + SECOND if pipelined else raw)
            response = await client.read_response(method)
            assert response.status == 200
            if ends:
                await check_last(client, response)
            else:
                assert (
                    await client.read_response() if pipelined else await client.request("GET", "/second")
                ).status == 200
                assert client.unread == b""
        received, *others = self.upstream.requests[before:]
        assert [(each.method, each.target, each.body) for each in others] == ([] if ends else [("GET", "/second", b"")])
        await self.is_sound()
        return received

    async def is_sound(self) -> None:
        """A client beside is answered, and nothing malformed has reached the upstream."""
        assert (await get(self.port, "/canary")).status == 200
        assert self.upstream.requests[-1].target == "/canary"
        assert self.upstream.malformed == []


@contextlib.asynccontextmanager
async def running_edge(**settings: Any) -> AsyncIterator[Edge]:
    """`settings` are those of `policies`."""
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, **settings)) as app:
        yield Edge(app, upstream)


async def check_last(client: RawClient, response: Response) -> None:
    """The answer announces the end of the connection, and the end comes with nothing before it."""
    assert response.header("Connection") == "close"
    assert (await client.ended_within(), client.unread) == ("fin", b"")


def check_problem(response: Response, *statuses: int) -> None:
    """An answer of our own: problem+json, Proxy-Status, nothing of the input and nothing about what we run on."""
    assert response.status in statuses
    assert (response.version, response.complete) == ("HTTP/1.1", True)
    assert response.header("Content-Type") == "application/problem+json"
    details = response.json()
    assert details["type"].startswith("urn:tidegate:problem:")
    assert details["status"] == response.status
    token = "destination_not_found" if response.status == 404 else "http_request_error"
    assert (response.header("Proxy-Status") or "").partition(";details")[0] == f"tidegate;error={token}"
    assert response.header("Server") is None
    assert not [word for word in (MARK, b"Python", b"aiohttp", b"127.0.0.1") if word in response.raw]
