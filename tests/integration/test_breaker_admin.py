"""The breakers on the admin listener: shown, forced for a while, and released."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.app import RunningApp, running_app
from tests.support.client import fetch, get
from tests.support.messages import Response
from tests.support.settings import policies
from tests.support.steps import reply
from tests.support.upstream import ScriptedUpstream


@pytest.fixture
async def app() -> AsyncIterator[RunningApp]:
    """One route, `api`, whose breaker opens with the second failure."""
    async with ScriptedUpstream() as upstream:
        upstream.on("/fails", reply(500))
        breaker = {"consecutive_failures": 2, "break_duration": "1m"}
        settings = policies(upstream.url, routes=[{"name": "api", "match": "* /*", "breaker": breaker}])
        async with running_app(settings) as running:
            yield running


async def post(app: RunningApp, target: str, body: bytes | None = None) -> Response:
    return await fetch(app.admin_port, "POST", target, body=body)


async def shown(app: RunningApp) -> dict[str, Any]:
    (breaker,) = (await get(app.admin_port, "/breakers")).json()["breakers"]
    return dict(breaker)


async def test_breakers_are_shown_with_what_they_decide_by(app: RunningApp) -> None:
    for target in ("/", "/fails"):
        await get(app.port, target)

    breaker = await shown(app)

    assert breaker.pop("in_state_for") >= 0
    assert breaker == {
        "name": "api",
        "mode": "enforce",
        "state": "closed",
        "opens_for": None,
        "forced_for": None,
        "trip_reason": None,
        "calls": 2,
        "failures": 1,
        "slow_calls": 0,
        "failure_ratio": 0.5,
        "slow_call_ratio": 0.0,
        "consecutive_failures": 1,
        "worker": None,
    }


async def test_open_breaker_is_shown_with_its_reason_and_its_end(app: RunningApp) -> None:
    for _ in range(2):
        await get(app.port, "/fails")

    breaker = await shown(app)

    assert (breaker["state"], breaker["trip_reason"]) == ("open", "consecutive_failures")
    assert 50 < breaker["opens_for"] <= 66


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("?state=isolated&for=10m", None),
        ("", b'{"state": "isolated", "for": "10m"}'),
        ("?state=closed&for=1s", b'{"state": "isolated", "for": "10m"}'),
    ],
    ids=["query", "body", "body-wins"],
)
async def test_forced_breaker_lets_nothing_pass_until_it_is_released(
    app: RunningApp, query: str, body: bytes | None
) -> None:
    forced = await post(app, f"/breakers/api/force{query}", body)

    assert forced.status == 200
    (breaker,) = forced.json()["breakers"]
    assert (breaker["state"], breaker["trip_reason"]) == ("isolated", "forced")
    assert 590 < breaker["forced_for"] <= 600
    assert (await get(app.port, "/")).status == 503

    released = await post(app, "/breakers/api/release")
    assert (released.status, released.json()["breakers"][0]["state"]) == (200, "half_open")
    assert (await get(app.port, "/")).status == 200


async def test_breaker_forced_closed_lets_everything_pass(app: RunningApp) -> None:
    for _ in range(2):
        await get(app.port, "/fails")
    assert (await get(app.port, "/fails")).status == 503

    await post(app, "/breakers/api/force?state=closed&for=10m")

    assert [(await get(app.port, "/fails")).status for _ in range(5)] == [500] * 5
    assert (await shown(app))["state"] == "forced_closed"


async def test_release_of_what_is_not_forced_changes_nothing(app: RunningApp) -> None:
    assert (await post(app, "/breakers/api/release")).status == 200

    assert (await shown(app))["state"] == "closed"


@pytest.mark.parametrize("target", ["/breakers/nobody/release", "/breakers/nobody/force?state=closed&for=1m"])
async def test_unknown_breaker_is_404(app: RunningApp, target: str) -> None:
    answer = await post(app, target)

    assert (answer.status, answer.json()["detail"]) == (404, "There is no breaker of that name.")


@pytest.mark.parametrize(
    ("wishes", "status"),
    [
        (b"", 422),
        (b'{"for": "10m"}', 422),
        (b'{"state": "isolated"}', 422),
        (b'{"state": "open", "for": "10m"}', 422),
        (b'{"state": ["isolated"], "for": "10m"}', 422),
        (b'{"state": "isolated", "for": "for ever"}', 422),
        (b'{"state": "isolated", "for": "0s"}', 422),
        (b'{"state": "isolated", "for": "1d1ms"}', 422),
        (b'{"state": "isolated", "for": 600}', 422),
        (b'["isolated"]', 400),
        (b"{", 400),
        (b"\xff", 400),
    ],
)
async def test_wish_that_makes_no_sense_is_refused_and_nothing_is_forced(
    app: RunningApp, wishes: bytes, status: int
) -> None:
    answer = await post(app, "/breakers/api/force", wishes)

    assert answer.status == status
    assert answer.header("Content-Type") == "application/problem+json"
    assert answer.json()["detail"]
    assert (await shown(app))["state"] == "closed"


async def test_foreign_page_cannot_force_anything(app: RunningApp) -> None:
    headers = {"Origin": "http://evil.example"}
    answer = await fetch(app.admin_port, "POST", "/breakers/api/force?state=isolated&for=1m", headers)

    assert answer.status == 403
    assert (await shown(app))["state"] == "closed"
