"""Every policy in shadow: neither client nor upstream sees a byte of it, and it says what it would have done."""

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.aftermath import wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, fetch
from tests.support.messages import Response
from tests.support.settings import policies
from tests.support.steps import Gate, chunk, delay, head, last_chunk, reply, reset
from tests.support.upstream import ScriptedUpstream

Replay = Callable[[int, ScriptedUpstream], Awaitable[list[Response]]]
Decisions = Counter[tuple[str, str, str]]

CHUNKED = {"Transfer-Encoding": "chunked"}
NO_TIMEOUTS = {"timeout": {"total": "off", "idle": "off"}}
_DIFFERS = (
    (rb"[0-9a-f]{32}", b"REQUEST-ID"),
    (rb"tidegate-[0-9a-f]{8}", b"PSEUDONYM"),
    (rb"Date: [^\r]+", b"Date: NOW"),
    (rb"(X-Request-Deadline-Ms): [0-9]+", rb"\1: LEFT"),
)
"""What differs from one run to the next in any case."""


# --- replays --------------------------------------------------------------------------------------------------------


def in_turn(*requests: tuple[str, str]) -> Replay:
    """One request after the other; the path says how the upstream answers."""

    async def replay(port: int, upstream: ScriptedUpstream) -> list[Response]:
        upstream.on("/fails", reply(503, {"X-Upstream": "1"}, b"failed"))
        upstream.on("/breaks", reset())
        upstream.on("/recovers", reply(503, body=b"not yet"), times=1)
        upstream.on("/slow", delay(0.4), reply(200, body=b"late"))
        upstream.on("/halts", head(200, CHUNKED), chunk(b"a"), delay(0.4), chunk(b"b"), last_chunk())
        upstream.on("*", reply(200, {"X-Upstream": "1"}, b"fine"))
        return [await fetch(port, method, target, {"Host": "api.example"}) for method, target in requests]

    return replay


async def side_by_side(port: int, upstream: ScriptedUpstream) -> list[Response]:
    """A second and a third request while the first is at the upstream."""
    gate = Gate()
    upstream.on("/held", gate, reply(200, body=b"held"))
    upstream.on("*", reply(200, body=b"fine"))
    host = {"Host": "api.example"}
    async with RawClient(port) as client:
        await client.send_request("GET", "/held", host)
        await gate.reached.wait()
        others = [await fetch(port, "GET", target, host) for target in ("/second", "/third")]
        gate.open()
        return [*others, await client.read_response()]


@dataclass(frozen=True, slots=True)
class Row:
    """One policy, the traffic that makes it act, and what it then decides."""

    name: str
    key: str
    settings: dict[str, Any]
    replay: Replay
    decided: dict[tuple[str, str], int]
    """Policy and decision: how often, in force and in shadow alike."""
    without: dict[str, Any] = field(default_factory=dict)
    """The settings of a route that does not have the policy."""

    def route(self, mode: str | None) -> dict[str, Any]:
        return dict(self.without) if mode is None else {self.key: {**self.settings, "mode": mode}}

    def __str__(self) -> str:
        return self.name


def timeout_row(name: str, limits: dict[str, str], target: str, kind: str) -> Row:
    settings = {"total": "off", "idle": "off", **limits}
    return Row(name, "timeout", settings, in_turn(("GET", target), ("GET", "/")), {("timeout", kind): 1}, NO_TIMEOUTS)


STATIC = {"steps": [{"static": {"body": {"degraded": True}}}]}
ROWS = [
    timeout_row("total-before-the-head", {"total": "150ms"}, "/slow", "total"),
    timeout_row("total-within-the-body", {"total": "150ms"}, "/halts", "total"),
    timeout_row("attempt", {"attempt": "150ms"}, "/slow", "attempt"),
    timeout_row("first-byte", {"first_byte": "150ms"}, "/slow", "first_byte"),
    timeout_row("idle", {"idle": "150ms"}, "/halts", "idle"),
    timeout_row("several-limits", {"total": "200ms", "first_byte": "100ms"}, "/slow", "first_byte"),
    Row(
        "fallback-for-statuses",
        "fallback",
        STATIC,
        in_turn(("GET", "/fails"), ("POST", "/fails"), ("GET", "/"), ("HEAD", "/fails")),
        {("fallback", "static"): 2},
    ),
    Row("fallback-for-errors", "fallback", STATIC, in_turn(("GET", "/breaks")), {("fallback", "static"): 1}),
    Row(
        "rate-limit",
        "rate_limit",
        {"rate": "2/hour"},
        in_turn(*[("GET", "/")] * 5),
        {("rate_limit", "limited"): 3},
    ),
    Row(
        "retry",
        "retry",
        {"max_attempts": 2, "base_delay": "1ms", "max_delay": "2ms"},
        in_turn(("GET", "/recovers"), ("POST", "/fails"), ("GET", "/")),
        {("retry", "retried"): 1},
    ),
    Row(
        "breaker",
        "breaker",
        {"consecutive_failures": 2, "break_duration": "1m"},
        in_turn(*[("GET", "/fails")] * 5),
        {("breaker", "open"): 3},
    ),
    Row(
        "bulkhead",
        "bulkhead",
        {"max_concurrent": 1, "max_queued": 0},
        side_by_side,
        {("bulkhead", "full"): 2},
    ),
]


# --- runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """All that could be seen from outside, and what the log says."""

    to_client: list[bytes]
    endings: list[tuple[bool, str]]
    to_upstream: list[bytes]
    decisions: Decisions


async def run(row: Row, mode: str | None) -> Run:
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url, route=row.route(mode))) as app,
    ):
        answers = await row.replay(app.port, upstream)
        await wait_at_rest(app)
        decisions = await decisions_of(app, len(answers))
        assert decisions == await counted(app, decisions)
    return Run(
        to_client=[same(bytes(answer.raw)) for answer in answers],
        endings=[(answer.complete, answer.ended) for answer in answers],
        to_upstream=sorted(same(bytes(request.raw)) for request in upstream.requests),
        decisions=decisions,
    )


def same(data: bytes) -> bytes:
    for pattern, replacement in _DIFFERS:
        data = re.sub(pattern, replacement, data)
    return data


async def decisions_of(app: RunningApp, requests: int) -> Decisions:
    lines = await app.access_log(requests)
    return Counter(
        (each["policy"], each["decision"], each["mode"]) for line in lines for each in line.get("decisions", ())
    )


async def counted(app: RunningApp, decisions: Decisions) -> Decisions:
    """The same from the metrics."""
    name = "proxy_policy_decisions_total"
    return Counter({key: int(await app.metric(name, policy=key[0], decision=key[1], mode=key[2])) for key in decisions})


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_shadow_changes_no_byte_on_either_side(row: Row) -> None:
    without, shadow = await run(row, None), await run(row, "shadow")

    assert shadow.to_client == without.to_client
    assert shadow.endings == without.endings
    assert shadow.to_upstream == without.to_upstream
    assert without.decisions == Counter()


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_shadow_reports_as_often_as_the_policy_would_act(row: Row) -> None:
    shadow, enforced = await run(row, "shadow"), await run(row, "enforce")

    assert shadow.decisions == {(*decided, "shadow"): times for decided, times in row.decided.items()}
    assert enforced.decisions == {(*decided, "enforce"): times for decided, times in row.decided.items()}
    assert shadow.to_client != enforced.to_client


@pytest.mark.parametrize("row", {row.key: row for row in ROWS}.values(), ids=str)
async def test_policy_that_is_off_is_not_there(row: Row) -> None:
    without, off = await run(row, None), await run(row, "off")

    assert off == without


# --- a share of the clients -----------------------------------------------------------------------------------------

CLIENTS = [f"192.0.2.{number}" for number in range(1, 61)]


async def answers_by_client(app: RunningApp, target: str) -> dict[str, set[bytes]]:
    """The bodies that each client gets, of three requests."""
    return {
        client: {(await fetch(app.port, "GET", target, {"X-Forwarded-For": client})).body for _ in range(3)}
        for client in CLIENTS
    }


async def test_enforce_percent_is_about_clients_and_not_about_requests() -> None:
    fallback = {"fallback": {**STATIC, "enforce_percent": "50%"}}
    server = {"trusted_proxies": ["127.0.0.1"]}
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url, server=server, route=fallback)) as app,
    ):
        upstream.on("/fails", reply(503, body=b"failed"))
        answers = await answers_by_client(app, "/fails")

        assert all(len(bodies) == 1 for bodies in answers.values())
        degraded = sum(bodies == {b'{"degraded":true}'} for bodies in answers.values())
        assert 15 <= degraded <= 45
        assert await app.metric("proxy_fallbacks_total") == 3 * degraded
        name, labels = "proxy_policy_decisions_total", {"policy": "fallback", "decision": "static"}
        assert await app.metric(name, mode="enforce", **labels) == 3 * degraded
        assert await app.metric(name, mode="shadow", **labels) == 3 * (len(CLIENTS) - degraded)


async def test_share_of_the_clients_is_the_same_for_all_policies_of_a_route() -> None:
    half = {"enforce_percent": "50%"}
    route = {
        "timeout": {"total": "off", "idle": "off", "first_byte": "50ms", **half},
        "fallback": {**STATIC, **half},
    }
    server = {"trusted_proxies": ["127.0.0.1"]}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server, route=route)) as app:
        upstream.on("/late", delay(0.25), reply(200, body=b"late"))
        bodies = [(await fetch(app.port, "GET", "/late", {"X-Forwarded-For": client})).body for client in CLIENTS[:16]]

        assert set(bodies) == {b'{"degraded":true}', b"late"}


async def test_trusted_callers_deadline_holds_while_the_routes_limits_are_in_shadow() -> None:
    route = {"timeout": {"total": "10s", "mode": "shadow"}}
    server = {"trusted_proxies": ["127.0.0.1"]}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server, route=route)) as app:
        upstream.on("/slow", delay(5), reply(200))

        assert (await fetch(app.port, "GET", "/slow", {"X-Request-Deadline-Ms": "200"})).status == 504
        assert int(upstream.requests[0].header("X-Request-Deadline-Ms") or 0) <= 200
        await fetch(app.port, "GET", "/")
        assert upstream.requests[1].header("X-Request-Deadline-Ms") is None
