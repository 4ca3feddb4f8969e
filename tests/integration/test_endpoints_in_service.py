"""Several endpoints behind one upstream: the dead one is found out and left out, and comes back."""

import asyncio
import json
from typing import Any

from tests.support.app import running_app
from tests.support.client import RawClient, get
from tests.support.settings import policies
from tests.support.steps import reply
from tests.support.upstream import ScriptedUpstream, refusing_port


def spread(*urls: str, **options: Any) -> str:
    """A file whose upstream has these endpoints."""
    file = json.loads(policies(urls[0], options=options))
    del file["upstreams"]["api"]["url"]
    file["upstreams"]["api"]["endpoints"] = list(urls)
    return json.dumps(file)


async def test_dead_endpoint_is_ejected_and_costs_no_request_after_that() -> None:
    ejection = {"consecutive_failures": 3, "duration": "60s"}
    with refusing_port() as dead:
        async with ScriptedUpstream() as alive:
            settings = spread(alive.url, f"http://127.0.0.1:{dead}", ejection=ejection)
            async with running_app(settings) as app, RawClient(app.port) as client:
                first = [(await client.request("GET", "/")).status for _ in range(60)]
                after = [(await client.request("GET", "/")).status for _ in range(60)]

                assert first.count(502) == 3
                assert set(after) == {200}
                assert await app.metric("proxy_endpoint_ejections_total", endpoint=f"http://127.0.0.1:{dead}") == 1
                assert await app.metric("proxy_endpoint_healthy") == 1


async def test_endpoint_that_answers_5xx_is_ejected_and_comes_back() -> None:
    ejection = {"consecutive_failures": 3, "duration": "300ms"}
    async with ScriptedUpstream() as good, ScriptedUpstream() as bad:
        bad.on("/", reply(500))
        async with running_app(spread(good.url, bad.url, ejection=ejection)) as app, RawClient(app.port) as client:
            statuses = [(await client.request("GET", "/")).status for _ in range(40)]
            assert statuses.count(500) >= 3

            bad.forget()
            hits = bad.hits("/")
            async with asyncio.timeout(10):
                while bad.hits("/") < hits + 3:
                    assert (await client.request("GET", "/")).status == 200
                    await asyncio.sleep(0.01)


async def test_last_endpoint_is_never_ejected() -> None:
    ejection = {"consecutive_failures": 1, "duration": "60s"}
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url, options={"ejection": ejection})) as app,
    ):
        upstream.on("/", reply(500), times=5)
        statuses = [(await get(app.port, "/")).status for _ in range(8)]

        assert statuses == [500] * 5 + [200] * 3


async def test_active_checks_take_an_endpoint_out_and_back() -> None:
    health = {"path": "/health", "interval": "50ms", "timeout": "500ms", "unhealthy_after": 2}
    async with ScriptedUpstream() as steady, ScriptedUpstream() as shaky:
        settings = spread(steady.url, shaky.url, health=health)
        async with running_app(settings) as app, RawClient(app.port) as client:
            shaky.on("/health", reply(503))
            await _until_healthy(app.admin_port, 1)
            hits = shaky.hits("/")
            assert {(await client.request("GET", "/")).status for _ in range(40)} == {200}
            assert shaky.hits("/") == hits

            shaky.forget()
            await _until_healthy(app.admin_port, 2)
            for _ in range(60):
                assert (await client.request("GET", "/")).status == 200
            assert shaky.hits("/") > hits


async def _until_healthy(admin_port: int, count: int) -> None:
    async with asyncio.timeout(10):
        while True:
            endpoints = (await get(admin_port, "/readyz")).json()["upstreams"]["api"]
            if sum(endpoint["state"] == "healthy" for endpoint in endpoints) == count:
                return
            await asyncio.sleep(0.02)
