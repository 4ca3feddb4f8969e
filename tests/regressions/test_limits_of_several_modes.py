"""Limits of a route that are in different modes have different state, and nobody else has the same."""

from typing import Any

import pytest

from tests.support.app import running_app
from tests.support.client import fetch, get
from tests.support.settings import policies
from tests.support.upstream import ScriptedUpstream

IN_FORCE: dict[str, Any] = {"rate": "1/day"}
CANDIDATE: dict[str, Any] = {"rate": "5/day", "mode": "shadow"}


@pytest.mark.parametrize("limits", [[IN_FORCE, CANDIDATE], [CANDIDATE, IN_FORCE]], ids=["behind", "before"])
async def test_candidate_in_shadow_does_not_give_the_clients_of_the_limit_in_force_a_new_burst(
    limits: list[dict[str, Any]],
) -> None:
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url, route={"rate_limit": [IN_FORCE]})) as app,
    ):
        assert [(await get(app.port, "/")).status for _ in range(2)] == [200, 429]

        app.write_policies(policies(upstream.url, route={"rate_limit": limits}))
        changes = (await fetch(app.admin_port, "POST", "/reload")).json()["changes"]

        assert [change for change in changes if "(shadow)" not in change] == []
        assert (await get(app.port, "/")).status == 429


async def test_second_group_of_limits_shares_nothing_with_a_route_named_alike() -> None:
    routes: list[dict[str, Any]] = [
        {"name": "search", "match": "GET /search", "rate_limit": [CANDIDATE, {"rate": "9/day"}]},
        {"name": "search-2", "match": "GET /other", "rate_limit": "1/day"},
    ]
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, routes=routes)) as app:
        assert [(await get(app.port, "/other")).status for _ in range(2)] == [200, 429]
