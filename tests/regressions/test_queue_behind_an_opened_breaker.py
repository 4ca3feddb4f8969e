"""Whoever waited for a permit while the breaker opened went to the upstream all the same."""

import asyncio
from collections import Counter

from tests.support.app import running_app
from tests.support.client import fetch, get
from tests.support.settings import policies
from tests.support.steps import Gate, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually


async def test_queue_does_not_go_to_an_upstream_that_is_left_alone() -> None:
    route = {
        "breaker": {"consecutive_failures": 2, "break_duration": "1h", "max_break_duration": "1h"},
        "bulkhead": {"max_concurrent": 2, "max_queued": 50, "queue_timeout": "30s"},
    }
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route=route)) as app:
        gate = Gate()
        upstream.on("*", gate, reply(500))
        asked = [asyncio.ensure_future(get(app.port, "/x")) for _ in range(20)]
        await eventually(lambda: len(upstream.requests) == 2)
        gate.open()

        assert Counter([answer.status for answer in await asyncio.gather(*asked)]) == {500: 2, 503: 18}
        assert len(upstream.requests) == 2
        assert await app.metric("proxy_bulkhead_in_use") == 0


async def test_queue_ends_when_the_breaker_is_isolated_by_hand() -> None:
    route = {"breaker": {}, "bulkhead": {"max_concurrent": 1, "max_queued": 50, "queue_timeout": "30s"}}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route=route)) as app:
        gate = Gate()
        upstream.on("*", gate, reply(200))
        asked = [asyncio.ensure_future(get(app.port, "/x")) for _ in range(5)]
        await eventually(lambda: len(upstream.requests) == 1)
        forced = await fetch(app.admin_port, "POST", "/breakers/everything/force?state=isolated&for=1h")
        assert forced.status == 200
        gate.open()

        assert Counter([answer.status for answer in await asyncio.gather(*asked)]) == {200: 1, 503: 4}
