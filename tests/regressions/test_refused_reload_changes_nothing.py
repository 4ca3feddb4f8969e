"""A reload that fails at its very end, with an access log that cannot be opened, has not touched any limit."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.app import running_app
from tests.support.client import fetch, get
from tests.support.settings import policies
from tests.support.upstream import ScriptedUpstream

STRICT: dict[str, Any] = {"rate_limit": "1/day", "bulkhead": {"max_concurrent": 1, "max_queued": 0}}
LAX: dict[str, Any] = {"rate_limit": "9/day", "bulkhead": {"max_concurrent": 9, "max_queued": 0}}


@pytest.mark.parametrize("refused", [LAX, {}], ids=["other-limits", "no-limits"])
async def test_access_log_that_cannot_be_opened_leaves_all_limits_as_they_were(
    tmp_path: Path, refused: dict[str, Any]
) -> None:
    nowhere = {"access_log": str(tmp_path / "missing" / "access.log")}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route=STRICT)) as app:
        assert [(await get(app.port, "/")).status for _ in range(2)] == [200, 429]

        app.write_policies(policies(upstream.url, server=nowhere, route=refused))
        assert (await fetch(app.admin_port, "POST", "/reload")).status == 422

        assert await app.metric("proxy_bulkhead_limit") == 1
        app.write_policies(policies(upstream.url, route={**STRICT, "timeout": "9s"}))
        assert (await fetch(app.admin_port, "POST", "/reload")).json()["changes"] == []
        assert (await get(app.port, "/")).status == 429
