"""A short failure holds no permit of its upstream while the fallback asks another one: that may take long."""

import asyncio
import json

from tests.support.app import running_app
from tests.support.client import get
from tests.support.settings import policies
from tests.support.steps import Gate, reply
from tests.support.upstream import ScriptedUpstream


async def test_others_get_the_permit_while_a_fallback_asks_another_upstream() -> None:
    route = {
        "upstream": "api",
        "bulkhead": {"max_concurrent": 1, "max_queued": 0},
        "fallback": [{"upstream": "archive"}],
    }
    async with ScriptedUpstream() as upstream, ScriptedUpstream() as archive:
        file = json.loads(policies(upstream.url, route=route))
        file["upstreams"]["archive"] = {"url": archive.url}
        gate = Gate()
        upstream.on("/fails", reply(503, body=b"failed"))
        upstream.on("/works", reply(200, body=b"from the upstream itself"))
        archive.on("/fails", gate, reply(200, body=b"from the archive"))
        async with running_app(json.dumps(file)) as app:
            replaced = asyncio.ensure_future(get(app.port, "/fails"))
            await gate.reached.wait()

            assert (await get(app.port, "/works")).body == b"from the upstream itself"

            gate.open()
            assert (await replaced).body == b"from the archive"


async def test_failure_that_nothing_replaces_is_passed_on_whole() -> None:
    async with ScriptedUpstream() as upstream, ScriptedUpstream() as archive:
        file = json.loads(policies(upstream.url, route={"upstream": "api", "fallback": [{"upstream": "archive"}]}))
        file["upstreams"]["archive"] = {"url": archive.url}
        upstream.on("*", reply(503, {"Retry-After": "7"}, b"failed"))
        archive.on("*", reply(500))
        async with running_app(json.dumps(file)) as app:
            answer = await get(app.port, "/")

            assert (answer.status, answer.header("Retry-After"), answer.body) == (503, "7", b"failed")
            assert answer.header("X-Degraded") is None
