"""How many instances divide a limit is not forgotten with the client of Redis, and at least the workers are known."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.app import RunningApp, running_app
from tests.support.client import fetch, get
from tests.support.redis_client import running_client
from tests.support.settings import free_port, policies
from tests.support.upstream import ScriptedUpstream
from tests.support.valkey import running_valkey


def limited(upstream: str, redis: dict[str, Any], **server: Any) -> str:
    text = policies(upstream, server=server, route={"rate_limit": "40/day"})
    return json.dumps({**json.loads(text), "redis": redis})


async def statuses(app: RunningApp, count: int) -> Counter[int]:
    return Counter([(await get(app.port, "/")).status for _ in range(count)])


async def test_reload_while_redis_is_gone_does_not_give_each_instance_the_whole_limit(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as valkey:
        async with (
            ScriptedUpstream() as upstream,
            running_client(valkey.url),
            running_app(limited(upstream.url, {"url": valkey.url})) as app,
        ):
            valkey.kill()
            app.write_policies(limited(upstream.url, {"url": valkey.url, "timeout": "40ms"}))
            assert (await fetch(app.admin_port, "POST", "/reload")).status == 200

            assert await statuses(app, 30) == {200: 20, 429: 10}


async def test_workers_divide_a_limit_when_redis_was_never_there() -> None:
    nowhere = {"url": f"redis://127.0.0.1:{free_port()}/0"}
    async with ScriptedUpstream() as upstream, running_app(limited(upstream.url, nowhere, workers=4)) as app:
        assert await statuses(app, 15) == {200: 10, 429: 5}
