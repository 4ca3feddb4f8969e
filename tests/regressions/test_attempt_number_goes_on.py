"""The number of a trusted caller's attempt goes on to the upstream: whoever retries there, too, must not begin anew."""

from typing import Any

import pytest

from tests.support.app import running_app
from tests.support.client import get
from tests.support.settings import policies
from tests.support.steps import reply
from tests.support.upstream import ScriptedUpstream

TRUSTING = {"trusted_proxies": ["127.0.0.1"]}
RETRYING = {"retry": {"max_attempts": 3, "base_delay": "1ms", "max_delay": "2ms"}}


@pytest.mark.parametrize("edit", [{}, {"headers": {"request": {"set": {"X-Own": "1"}}}}], ids=["plain", "edited"])
async def test_one_of_three_in_a_row_retries(edit: dict[str, Any]) -> None:
    def before(port: int, route: dict[str, Any]) -> str:
        return policies(f"http://127.0.0.1:{port}", server=TRUSTING, route=route)

    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url, server=TRUSTING, route=RETRYING)) as last,
        running_app(before(last.port, edit)) as middle,
        running_app(before(middle.port, RETRYING)) as first,
    ):
        upstream.on("*", reply(503))

        assert (await get(first.port, "/")).status == 503

        # The last one cannot know that the first attempt is not the only one.
        assert [request.header("X-Request-Attempt") for request in upstream.requests] == ["1", "2", "3", "2", "3"]
