"""Purges of instances that share Redis: heard everywhere, kept while Redis is away, and shown as such."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.support.app import RunningApp, running_app
from tests.support.client import fetch, get
from tests.support.settings import policies
from tests.support.steps import Turn, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.valkey import Valkey

ROUTES: list[dict[str, Any]] = [
    {"name": "details", "match": "GET /properties/{id}", "cache": {"ttl": "1h", "tags": ["property:{id}"]}},
    {"name": "update", "match": "PUT /properties/{id}", "invalidate": "property:{id}"},
]


@contextlib.asynccontextmanager
async def running_site(redis: str, count: int = 2) -> AsyncIterator[tuple[list[RunningApp], ScriptedUpstream]]:
    """So many instances before one upstream, which answers with the number of the request."""
    async with ScriptedUpstream() as upstream, contextlib.AsyncExitStack() as stack:

        async def step(turn: Turn) -> None:
            await reply(200, {}, b"answer %d" % len(upstream.requests))(turn)

        upstream.on("*", step)
        text = json.dumps(
            {**json.loads(policies(upstream.url, routes=ROUTES)), "redis": {"url": redis, "timeout": "1s"}}
        )
        yield [await stack.enter_async_context(running_app(text)) for _ in range(count)], upstream


async def status(app: RunningApp) -> dict[str, Any]:
    return dict((await get(app.admin_port, "/cache")).json()["caches"][0])


async def until(app: RunningApp, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while not condition(shown := await status(app)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return shown


async def bodies(apps: list[RunningApp], target: str = "/properties/1") -> list[bytes]:
    return [(await get(app.port, target, {"Host": "api.test"})).body for app in apps]


async def until_nobody_sends(body: bytes, apps: list[RunningApp]) -> None:
    async with asyncio.timeout(20):
        while body in await bodies(apps):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_what_one_instance_purges_no_other_sends_on(valkey: Valkey) -> None:
    async with running_site(valkey.url) as (apps, upstream):
        for query in ("tag=property:1", "url=/properties/1", "url=http://api.test/properties/1", "all=true"):
            (first, second), before = await bodies(apps), len(upstream.requests)
            assert first == second

            answer = await fetch(apps[0].admin_port, "POST", f"/purge?{query}")
            assert (answer.status, answer.json()["complete"]) == (200, True)

            await until_nobody_sends(first, apps)
            assert len(upstream.requests) == before + 1, "filled once for both"


async def test_mutation_through_one_instance_is_heard_by_the_other(valkey: Valkey) -> None:
    async with running_site(valkey.url) as (apps, _):
        first, _ = await bodies(apps)

        assert (await fetch(apps[0].port, "PUT", "/properties/1", {"Host": "api.test"}, b"new")).status == 200

        assert first not in await bodies(apps[:1])
        await until_nobody_sends(first, apps)


async def test_purge_while_redis_is_away_is_kept_and_shown(valkey: Valkey) -> None:
    async with running_site(valkey.url, 1) as (apps, _):
        (app,) = apps
        (first,) = await bodies(apps)
        assert (await status(app)) | {"bytes": 0, "entries": 0} == {
            "entries": 0,
            "max_entries": 1000,
            "bytes": 0,
            "max_bytes": 64 * 1024 * 1024,
            "redis": True,
            "gap_for": None,
            "pending": 0,
            "warm": None,
            "worker": None,
        }
        valkey.kill()
        await until(app, lambda shown: shown["gap_for"] is not None)

        answer = await fetch(app.admin_port, "POST", "/purge?tag=property:1")
        assert (answer.status, answer.json()["complete"]) == (200, False)
        assert (await status(app))["pending"] == 1
        assert await bodies(apps) != [first]

        valkey.restart()
        shown = await until(app, lambda shown: shown["pending"] == 0 and shown["gap_for"] is None)
        assert shown["redis"] is True
        async with asyncio.timeout(20):  # it may still be finding out what the server is
            while not (await fetch(app.admin_port, "POST", "/purge?tag=property:1")).json()["complete"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_mutation_is_answered_while_redis_is_away(valkey: Valkey) -> None:
    async with running_site(valkey.url, 1) as (apps, _):
        (first,) = await bodies(apps)
        valkey.kill()

        assert (await fetch(apps[0].port, "PUT", "/properties/1", {"Host": "api.test"}, b"new")).status == 200

        assert await bodies(apps) != [first]
        assert await apps[0].metric("proxy_policy_decisions_total", policy="invalidate", decision="local") == 1


async def test_entry_is_shown_on_each_level(valkey: Valkey) -> None:
    async with running_site(valkey.url) as (apps, _):
        await bodies(apps[:1])
        target = "/cache/entry?url=http://api.test/properties/1"
        (first, second) = [(await get(app.admin_port, target)).json()["entries"] for app in apps]

        assert [each["level"] for each in first] == ["memory", "redis"]
        assert [(each["level"], each["status"], each["validity"], each["size"]) for each in second] == [
            ("redis", 200, "valid", len("answer 1"))
        ]
        assert second[0]["tags"] == first[0]["tags"]
        assert 3500 < second[0]["fresh_for"] <= 3600

        await fetch(apps[0].admin_port, "POST", "/purge?tag=property:1&soft=true")
        (again,) = (await get(apps[1].admin_port, target)).json()["entries"]
        assert again["validity"] == "soft"
        assert again["fresh_for"] <= 0
