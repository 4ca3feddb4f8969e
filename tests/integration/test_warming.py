"""Warming a running instance: from its file, from its upstream, again on demand, and what it says meanwhile."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.aftermath import until_metric
from tests.support.app import RunningApp, running_app
from tests.support.client import fetch, get
from tests.support.settings import policies
from tests.support.steps import Gate, Turn, reply
from tests.support.upstream import ScriptedUpstream

ROUTES: list[dict[str, Any]] = [
    {
        "name": "details",
        "match": "GET /properties/{id}",
        "cache": {"ttl": "1h"},
        "rate_limit": {"rate": "1/hour", "burst": 100},
    },
    {"name": "rest", "match": "* /*", "timeout": {"total": "5s"}},
]


def settings(url: str, **warm: Any) -> str:
    file = json.loads(policies(url, routes=ROUTES))
    return json.dumps({**file, "cache": {"warm": {"rate": "1000/s", **warm}}})


@contextlib.asynccontextmanager
async def site(**warm: Any) -> AsyncIterator[tuple[RunningApp, ScriptedUpstream]]:
    async with ScriptedUpstream() as upstream:
        upstream.on("/properties", reply(200, {}, b'{"items": [{"id": 1}, {"id": 2}, {"url": "/elsewhere"}]}'))
        upstream.on(
            "/sitemap.xml", reply(200, {}, b"<urlset><url><loc>https://shop.test/properties/3</loc></url></urlset>")
        )
        upstream.on("*", reply(200, {}, b"x"))
        async with running_app(settings(upstream.url, **warm)) as app:
            yield app, upstream


async def ended(app: RunningApp) -> dict[str, Any]:
    """How far it has come when it is over."""
    async with asyncio.timeout(10):
        while True:
            (cache,) = (await get(app.admin_port, "/cache")).json()["caches"]
            if cache["warm"]["state"] in ("ended", "failed"):
                return dict(cache["warm"])
            await asyncio.sleep(0.01)


async def hits(app: RunningApp, upstream: ScriptedUpstream, target: str, host: str) -> bool:
    before = len(upstream.requests)
    assert (await get(app.port, target, {"Host": host})).status == 200
    return len(upstream.requests) == before


async def test_what_the_upstream_lists_is_there_before_anybody_asks() -> None:
    async with site(**{"from": "/properties?sort=views"}) as (app, upstream):
        progress = await ended(app)

        assert progress == {"state": "ended", "total": 2, "done": 2, "failed": 0, "problem": ""}
        host = f"127.0.0.1:{upstream.port}"
        assert await hits(app, upstream, "/properties/1", host)
        assert await hits(app, upstream, "/properties/2", host)
        await until_metric(app, 2, "proxy_cache_warmed_total", outcome="ok")


async def test_urls_of_the_file_are_fetched_for_the_host_that_clients_ask_for() -> None:
    async with site(urls=["/properties/7"], host="shop.test") as (app, upstream):
        await ended(app)

        assert upstream.requests[0].header("Host") == "shop.test"
        assert await hits(app, upstream, "/properties/7", "shop.test")
        assert not await hits(app, upstream, "/properties/7", "other.test")


async def test_sitemap_says_the_scheme_too() -> None:
    async with site(host="shop.test", **{"from": "/sitemap.xml"}) as (app, upstream):
        assert (await ended(app))["done"] == 1
        assert upstream.requests[-1].target == "/properties/3"

        entry = await get(app.admin_port, "/cache/entry?url=https://shop.test/properties/3")
        assert len(entry.json()["entries"]) == 1


async def test_it_is_no_traffic_of_clients() -> None:
    """Neither in the access log nor in the counts, and no rate limit is for it."""
    async with site(urls=["/properties/7"]) as (app, _):
        await ended(app)

        assert await app.metric("proxy_requests_total") == 0
        assert await app.metric("proxy_rate_limit_clients") == 0
        assert await app.metric("proxy_requests_in_flight") == 0


@pytest.mark.parametrize("ready", [True, False])
async def test_readiness_waits_for_it_where_the_file_says_so(ready: bool) -> None:
    gate = Gate()

    async def slow(turn: Turn) -> None:
        await gate(turn)
        await reply(200, {}, b"x")(turn)

    async with ScriptedUpstream() as upstream:
        upstream.on("/properties/1", slow)
        async with running_app(settings(upstream.url, urls=["/properties/1"], ready=ready)) as app:
            await gate.reached.wait()
            readiness = await get(app.admin_port, "/readyz")
            assert (readiness.status, readiness.json()["reasons"]) == (
                (503, ["warming 0 of 1"]) if ready else (200, [])
            )

            gate.open()
            await ended(app)
            assert (await get(app.admin_port, "/readyz")).status == 200


async def test_it_is_done_again_on_demand_but_not_twice_at_a_time() -> None:
    gate = Gate()

    async def slow(turn: Turn) -> None:
        await gate(turn)
        await reply(200, {}, b"x")(turn)

    async with ScriptedUpstream() as upstream:
        upstream.on("/properties/1", slow)
        async with running_app(settings(upstream.url, urls=["/properties/1"])) as app:
            await gate.reached.wait()
            assert (await fetch(app.admin_port, "POST", "/warm")).status == 409
            gate.open()
            await ended(app)
            await fetch(app.admin_port, "POST", "/purge?all=true")

            again = await fetch(app.admin_port, "POST", "/warm")
            assert (again.status, again.json()) == (202, {"warming": True})
            await ended(app)
            assert len(upstream.requests) == 2


async def test_without_anything_to_fetch_there_is_nothing_to_do() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, routes=ROUTES)) as app:
        assert (await fetch(app.admin_port, "POST", "/warm")).status == 404


async def test_reload_warms_again_only_when_it_says_something_else() -> None:
    async with site(urls=["/properties/1"]) as (app, upstream):
        await ended(app)
        app.write_policies(settings(upstream.url, urls=["/properties/1"], limit=5).replace("1h", "2h"))
        assert (await fetch(app.admin_port, "POST", "/reload")).status == 200
        assert (await ended(app))["done"] == 1

        app.write_policies(settings(upstream.url, urls=["/properties/2"]))
        await fetch(app.admin_port, "POST", "/reload")
        await ended(app)
        assert upstream.hits("/properties/2") == 1

        app.write_policies(policies(upstream.url))
        assert (await fetch(app.admin_port, "POST", "/reload")).status == 200
        assert (await get(app.admin_port, "/cache")).status == 404


async def test_upstream_that_does_not_answer_fails_what_it_is_asked_and_nothing_else() -> None:
    async with site(urls=["/properties/1"]) as (app, upstream):
        await ended(app)
        await upstream.stop()
        await fetch(app.admin_port, "POST", "/purge?all=true")
        await fetch(app.admin_port, "POST", "/warm")

        assert (await ended(app))["failed"] == 1
        assert (await get(app.admin_port, "/readyz")).status == 200
        await upstream.start()


async def test_stop_does_not_wait_for_it() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream:
        upstream.on("/properties/1", gate)
        async with running_app(settings(upstream.url, urls=["/properties/1"])):
            await gate.reached.wait()
        gate.open()
