"""A reload adapts what the policies remember and resets nothing: no limit is refilled, no breaker forgets."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, fetch, get
from tests.support.settings import policies
from tests.support.steps import Gate, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

RELOADS = 100


async def reload(app: RunningApp, text: str) -> list[str]:
    """Put `text` in force; what the answer says about state."""
    app.write_policies(text)
    answer = await fetch(app.admin_port, "POST", "/reload")
    assert answer.status == 200, answer.body
    changes = answer.json()["changes"]
    assert isinstance(changes, list)
    return changes


async def statuses(port: int, count: int) -> Counter[int]:
    return Counter([(await get(port, "/x")).status for _ in range(count)])


async def test_a_hundred_reloads_under_load_admit_nothing_extra() -> None:
    def version(url: str, number: int) -> str:
        limit = {"rate": f"{20 + number % 3}/day", "burst": 20 + number % 3}
        return policies(url, route={"rate_limit": limit, "timeout": f"{number + 1}s"})

    async with ScriptedUpstream() as upstream, running_app(version(upstream.url, 0)) as app:
        stop = asyncio.Event()
        seen: Counter[int] = Counter()

        async def ask() -> None:
            async with RawClient(app.port) as client:
                while not stop.is_set():
                    seen[(await client.request("GET", "/x")).status] += 1

        clients = [asyncio.ensure_future(ask()) for _ in range(4)]
        for number in range(1, RELOADS + 1):
            await reload(app, version(upstream.url, number))
        stop.set()
        await asyncio.gather(*clients)

        # The largest of the bursts, and what a day's rate gives back within seconds: nothing.
        assert seen[200] <= 22
        assert seen[200] + seen[429] == sum(seen.values()) > RELOADS
        assert len(upstream.requests) == seen[200]


async def test_a_changed_limit_keeps_what_a_client_has_used() -> None:
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url, route={"rate_limit": "4/day"})) as app,
    ):
        assert await statuses(app.port, 6) == {200: 4, 429: 2}

        assert await reload(app, policies(upstream.url, route={"rate_limit": "5/day"}))
        assert (await statuses(app.port, 4))[200] <= 1

        assert await reload(app, policies(upstream.url, route={"rate_limit": "2/day"}))
        assert await statuses(app.port, 2) == {429: 2}


async def test_an_open_breaker_stays_open() -> None:
    def version(url: str, failures: int) -> str:
        breaker = {"consecutive_failures": failures, "break_duration": "1h", "max_break_duration": "1h"}
        return policies(url, route={"breaker": breaker})

    async with ScriptedUpstream() as upstream, running_app(version(upstream.url, 2)) as app:
        upstream.on("*", reply(500))
        assert await statuses(app.port, 3) == {500: 2, 503: 1}

        await reload(app, version(upstream.url, 3))

        assert await statuses(app.port, 2) == {503: 2}
        assert await app.metric("proxy_breaker_state", breaker="everything", state="open") == 1


async def test_changed_permits_keep_what_is_in_flight() -> None:
    def version(url: str, permits: int) -> str:
        return policies(url, route={"bulkhead": {"max_concurrent": permits, "max_queued": 0}})

    async with ScriptedUpstream() as upstream, running_app(version(upstream.url, 2)) as app:
        gate = Gate()
        upstream.on("/slow", gate, reply(200))
        slow = [asyncio.ensure_future(get(app.port, "/slow")) for _ in range(2)]
        await eventually(lambda: len(upstream.requests) == 2)

        (change,) = await reload(app, version(upstream.url, 3))
        assert change.startswith("bulkhead everything: ")
        assert await statuses(app.port, 1) == {200: 1}
        await reload(app, version(upstream.url, 1))
        assert await statuses(app.port, 1) == {503: 1}
        gate.open()
        assert [answer.status for answer in await asyncio.gather(*slow)] == [200, 200]

        assert await statuses(app.port, 2) == {200: 2}
        assert await app.metric("proxy_bulkhead_in_use") == 0


async def test_state_belongs_to_a_name_and_not_to_a_place_in_the_file() -> None:
    def version(url: str, *names: str) -> str:
        matches = {"first": "GET /x", "second": "GET /y"}
        routes: list[dict[str, Any]] = [{"name": name, "match": matches[name], "rate_limit": "1/day"} for name in names]
        return policies(url, routes=routes)

    async with ScriptedUpstream() as upstream, running_app(version(upstream.url, "first", "second")) as app:
        assert await statuses(app.port, 2) == {200: 1, 429: 1}

        assert await reload(app, version(upstream.url, "second", "first")) == []
        assert await statuses(app.port, 1) == {429: 1}

        assert await reload(app, version(upstream.url, "second")) == ["rate_limit first: dropped"]
        assert await reload(app, version(upstream.url, "second", "first")) == ["rate_limit first: new"]
        assert await statuses(app.port, 1) == {200: 1}


async def test_a_refused_file_changes_no_state() -> None:
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url, route={"rate_limit": "2/day"})) as app,
    ):
        assert await statuses(app.port, 3) == {200: 2, 429: 1}
        broken = json.loads(policies(upstream.url, route={"rate_limit": "9/day"}))
        broken["routes"][0]["retry"] = "slowly"

        app.write_policies(json.dumps(broken))
        assert (await fetch(app.admin_port, "POST", "/reload")).status == 422

        assert await statuses(app.port, 1) == {429: 1}


async def test_a_changed_file_of_a_fallback_is_a_changed_configuration(tmp_path: Path) -> None:
    demo = tmp_path / "demo.json"
    demo.write_text('{"demo": 1}')

    async with ScriptedUpstream() as upstream:
        upstream.on("*", reply(500))
        async with running_app(policies(upstream.url, route={"fallback": [{"file": str(demo)}]})) as app:
            assert (await get(app.port, "/x")).json() == {"demo": 1}

            demo.write_text('{"demo": 2}')
            assert (await fetch(app.admin_port, "POST", "/reload")).status == 200

            assert (await get(app.port, "/x")).json() == {"demo": 2}
