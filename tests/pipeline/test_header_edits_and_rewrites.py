"""What a route changes on the way: the path that is sent, and header fields in both directions."""

from typing import Any

import pytest

from tests.support.app import running_app
from tests.support.client import get
from tests.support.settings import policies
from tests.support.steps import reply
from tests.support.upstream import ScriptedUpstream, refusing_port

pytestmark = pytest.mark.both_loops


@pytest.mark.parametrize(
    ("match", "rewrite", "asked", "sent"),
    [
        ("GET /v1/{id}", "/items/{id}", "/v1/7", "/items/7"),
        ("GET /v1/{id}", "/items/{id}", "/v1/7?a=b&c=%2F", "/items/7?a=b&c=%2F"),
        ("GET /v1/{id}", "/items/{id}", "/v1/a%20b", "/items/a%20b"),
        ("GET /old/*", "/new/*", "/old/x/y", "/new/x/y"),
        ("GET /old/*", "/new/*", "/old", "/new"),
    ],
)
async def test_rewrite_sends_another_path(match: str, rewrite: str, asked: str, sent: str) -> None:
    routes = [{"name": "rewritten", "match": match, "rewrite": rewrite}]
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, routes=routes)) as app:
        assert (await get(app.port, asked)).status == 200

        assert upstream.requests[0].target == sent
        (line,) = await app.access_log()
        assert line["path"] == asked.partition("?")[0]


def edits(**directions: Any) -> dict[str, Any]:
    return {"headers": directions}


async def test_request_fields_are_set_and_removed_and_our_own_stay() -> None:
    request = {"set": {"X-Api-Key": "secret", "X-Client": "tidegate"}, "remove": ["Cookie"]}
    async with ScriptedUpstream() as upstream:
        async with running_app(policies(upstream.url, route=edits(request=request))) as app:
            fields = [("X-Client", "a"), ("x-client", "b"), ("Cookie", "c"), ("X-Other", "d")]
            assert (await get(app.port, "/", fields)).status == 200

        (received,) = upstream.requests
        assert received.header_list("X-Client") == ["tidegate"]
        assert received.header("X-Api-Key") == "secret"
        assert received.header("Cookie") is None
        assert received.header("X-Other") == "d"
        assert received.header("X-Forwarded-For") == "127.0.0.1"
        assert received.header("Host") == "localhost"


async def test_response_fields_are_set_and_removed_on_answers_and_on_refusals() -> None:
    response = {"set": {"X-Frame-Options": "DENY"}, "remove": ["X-Powered-By", "Server"]}
    async with ScriptedUpstream() as upstream:
        upstream.on("/", reply(200, [("X-Powered-By", "x"), ("Server", "y"), ("X-Frame-Options", "ALLOW")], b"hello"))
        async with running_app(policies(upstream.url, route=edits(response=response))) as app:
            answer = await get(app.port, "/")

    assert answer.header_list("X-Frame-Options") == ["DENY"]
    assert answer.header("X-Powered-By") is answer.header("Server") is None
    with refusing_port() as port:
        async with running_app(policies(f"http://127.0.0.1:{port}", route=edits(response=response))) as app:
            refused = await get(app.port, "/")
    assert (refused.status, refused.header("X-Frame-Options")) == (502, "DENY")


@pytest.mark.parametrize(
    ("host", "expected"), [("preserve", "client.example"), ("upstream", None), ("fixed.example", "fixed.example")]
)
async def test_host_is_the_clients_the_upstreams_or_a_fixed_one(host: str, expected: str | None) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, options={"host": host})) as app:
        await get(app.port, "/", {"Host": "client.example"})

        assert upstream.requests[0].header("Host") == (expected or f"127.0.0.1:{upstream.port}")


async def test_removed_response_fields_are_not_added_by_us_either() -> None:
    response = {"remove": ["Date", "via", "X-Request-Id"]}
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url, route=edits(response=response))) as app,
    ):
        upstream.on("/", reply(200, {"Date": "Sat, 21 Nov 2026 22:23:49 GMT", "Via": "1.1 api"}))
        upstream.on("/undated", reply(204))

        for path in ("/", "/undated"):
            names = {name.lower() for name in (await get(app.port, path)).names()}
            assert names.isdisjoint({"date", "via", "x-request-id"})
