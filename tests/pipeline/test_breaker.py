"""The breaker through the whole proxy: what opens it, what does not, and what client, log and metrics see of it."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.aftermath import assert_cut, assert_problem, until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, fetch, get
from tests.support.settings import policies
from tests.support.steps import Gate, chunk, close, delay, hang, head, last_chunk, reply, tunnel
from tests.support.upstream import ScriptedUpstream, refusing_port

pytestmark = pytest.mark.both_loops

STATE = "proxy_breaker_state"
TRANSITIONS = "proxy_breaker_transitions_total"
CHUNKED = {"Transfer-Encoding": "chunked"}
LONG = "10m"


def guarded(upstream: ScriptedUpstream, *, server: dict[str, Any] | None = None, **route: Any) -> str:
    """A file whose only route has a breaker that opens for long with the third failure in a row."""
    breaker = {"consecutive_failures": 3, "break_duration": LONG, **route.pop("breaker", {})}
    return policies(upstream.url, server=server, route={"breaker": breaker, **route})


async def state_of(app: RunningApp, breaker: str = "everything", mode: str = "enforce") -> str:
    """Its state, of which there is exactly one."""
    answer = await get(app.admin_port, "/breakers")
    (state,) = [each["state"] for each in answer.json()["breakers"] if (each["name"], each["mode"]) == (breaker, mode)]
    assert await app.metric(STATE, breaker=breaker, mode=mode, state=state) == 1
    assert await app.metric(STATE, breaker=breaker, mode=mode) == 1
    return str(state)


async def fail(app: RunningApp, times: int, target: str = "/fails") -> None:
    for _ in range(times):
        assert (await get(app.port, target)).status == 500


async def half_open(app: RunningApp) -> None:
    await fetch(app.admin_port, "POST", "/breakers/everything/force?state=isolated&for=1m")
    await fetch(app.admin_port, "POST", "/breakers/everything/release")
    assert await state_of(app) == "half_open"


# --- open -----------------------------------------------------------------------------------------------------------


async def test_failing_upstream_is_left_alone_and_everybody_is_told() -> None:
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream)) as app:
        upstream.on("/fails", reply(500))
        await fail(app, 3)

        refused = await get(app.port, "/other")

        assert_problem(refused, 503, "destination_unavailable")
        assert refused.json()["type"] == "urn:tidegate:problem:breaker-open"
        assert 590 <= int(refused.header("Retry-After") or 0) <= 660
        assert len(upstream.requests) == 3
        assert await state_of(app) == "open"
        assert await app.metric(TRANSITIONS, breaker="everything", to="open", reason="consecutive_failures") == 1
        assert await app.metric("proxy_policy_decisions_total", policy="breaker", decision="open", mode="enforce") == 1
        line = (await app.access_log(4))[-1]
        assert (line["status"], [each["policy"] for each in line["decisions"]]) == (503, ["breaker"])


async def test_transition_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream)) as app:
        upstream.on("/fails", reply(500))
        await fail(app, 3)

    (record,) = [each for each in caplog.records if each.name == "tidegate.breaker"]
    line = vars(record)
    assert record.levelname == "WARNING"
    assert [line[key] for key in ("breaker", "mode", "from", "to", "reason")] == [
        "everything",
        "enforce",
        "closed",
        "open",
        "consecutive_failures",
    ]
    assert 600 <= line["seconds"] <= 660


async def test_unreachable_upstream_opens_it() -> None:
    with refusing_port() as port:
        settings = policies(f"http://127.0.0.1:{port}", route={"breaker": {"consecutive_failures": 2}})
        async with running_app(settings) as app:
            statuses = [(await get(app.port, "/")).status for _ in range(4)]

            assert statuses == [502, 502, 503, 503]


async def test_upstream_that_hangs_opens_it() -> None:
    route = {"timeout": {"total": "5s", "attempt": "100ms"}}
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream, **route)) as app:
        upstream.on("*", hang())

        statuses = [(await get(app.port, "/")).status for _ in range(4)]

        assert statuses == [504, 504, 504, 503]


async def test_slow_answers_open_it_though_they_succeed() -> None:
    breaker = {"slow_call": "50ms", "slow_call_ratio": "50%", "minimum_throughput": 4}
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream, breaker=breaker)) as app:
        upstream.on("*", delay(0.1), reply())

        statuses = [(await get(app.port, "/")).status for _ in range(5)]

        assert statuses == [200, 200, 200, 200, 503]
        assert await app.metric(TRANSITIONS, to="open", reason="slow_call_ratio") == 1


async def test_body_that_breaks_off_is_a_failure() -> None:
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream)) as app:
        gates = [Gate() for _ in range(3)]
        for gate in gates:
            upstream.on("/", head(200, CHUNKED), chunk(b"a"), gate, close(), times=1)
        for gate in gates:
            async with RawClient(app.port) as client:
                await client.send_request("GET", "/")
                answer = await client.read_head()
                gate.open()
                async for _ in client.read_body(answer):
                    pass
                assert_cut(answer)

        await until_metric(app, 1, TRANSITIONS, to="open")
        assert_problem(await get(app.port, "/"), 503, "destination_unavailable")


# --- closed ---------------------------------------------------------------------------------------------------------


async def test_callers_with_tiny_deadlines_cannot_open_it() -> None:
    trusted = {"trusted_proxies": ["127.0.0.1"]}
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream, server=trusted, timeout="10s")) as app:
        upstream.on("/slow", hang())
        for _ in range(6):
            assert (await get(app.port, "/slow", {"X-Request-Deadline-Ms": "30"})).status == 504

        assert (await get(app.port, "/")).status == 200
        assert await state_of(app) == "closed"


async def test_clients_that_leave_cannot_open_it() -> None:
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream)) as app:
        upstream.on("/slow", hang())
        for number in range(6):
            async with RawClient(app.port) as client:
                await client.send_request("GET", "/slow")
                await upstream.wait_for_requests(number + 1)
            await upstream.wait_closed(number + 1)
        await wait_at_rest(app)

        assert (await get(app.port, "/")).status == 200
        (breaker,) = (await get(app.admin_port, "/breakers")).json()["breakers"]
        assert (breaker["state"], breaker["failures"]) == ("closed", 0)


async def test_full_bulkhead_cannot_open_it() -> None:
    bulkhead = {"max_concurrent": 1, "max_queued": 0}
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream, bulkhead=bulkhead)) as app:
        upstream.on("/held", gate, reply())
        holding = asyncio.ensure_future(get(app.port, "/held"))
        await gate.reached.wait()

        refused = [await get(app.port, "/") for _ in range(6)]
        gate.open()

        assert {answer.json()["type"] for answer in refused} == {"urn:tidegate:problem:bulkhead-full"}
        assert (await holding).status == 200
        assert await state_of(app) == "closed"


async def test_answers_below_500_keep_it_closed() -> None:
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream)) as app:
        for status in (400, 404, 429):
            upstream.on(f"/{status}", reply(status))
            for _ in range(4):
                assert (await get(app.port, f"/{status}")).status == status

        assert await state_of(app) == "closed"


# --- half open ------------------------------------------------------------------------------------------------------


async def test_after_the_break_probes_close_it() -> None:
    breaker = {"break_duration": "100ms", "max_break_duration": "100ms"}
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream, breaker=breaker)) as app:
        upstream.on("/fails", reply(500))
        await fail(app, 3)
        await until_metric(app, 1, STATE, state="half_open")

        assert [(await get(app.port, "/")).status for _ in range(5)] == [200] * 5

        assert await state_of(app) == "closed"
        assert await app.metric(TRANSITIONS, to="closed", reason="probes_succeeded") == 1


async def test_one_probe_is_under_way_at_a_time() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream)) as app:
        upstream.on("/probe", gate, reply())
        await half_open(app)
        probe = asyncio.ensure_future(get(app.port, "/probe"))
        await gate.reached.wait()

        others = await asyncio.gather(*(get(app.port, "/") for _ in range(10)))
        gate.open()

        assert {(each.status, each.header("Retry-After")) for each in others} == {(503, "1")}
        assert (await probe).status == 200
        assert len(upstream.requests) == 1
        assert (await get(app.port, "/")).status == 200


@pytest.mark.parametrize("leaves_in", ["head", "body"])
async def test_probe_whose_client_leaves_makes_room_for_the_next(leaves_in: str) -> None:
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream)) as app:
        upstream.on("/head", hang())
        upstream.on("/body", head(200, CHUNKED), chunk(b"a"), hang())
        await half_open(app)
        async with RawClient(app.port) as client:
            await client.send_request("GET", f"/{leaves_in}")
            await upstream.wait_for_requests(1)
            if leaves_in == "body":
                await client.read_head()
        await upstream.wait_closed(1)
        await wait_at_rest(app)

        assert (await get(app.port, "/")).status == 200


async def test_probe_that_the_bulkhead_refuses_makes_room_for_the_next() -> None:
    bulkhead = {"max_concurrent": 1, "max_queued": 0}
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream, bulkhead=bulkhead)) as app:
        upstream.on("/held", gate, reply())
        holding = asyncio.ensure_future(get(app.port, "/held"))
        await gate.reached.wait()
        await half_open(app)

        refused = [(await get(app.port, "/")).json()["type"] for _ in range(3)]
        gate.open()
        await holding

        assert refused == ["urn:tidegate:problem:bulkhead-full"] * 3
        assert (await get(app.port, "/")).status == 200


@pytest.mark.parametrize("lasting", ["tunnel", "events"])
async def test_tunnel_and_event_stream_are_judged_at_their_head(lasting: str) -> None:
    gate = Gate()
    stream = {"Content-Type": "text/event-stream", **CHUNKED}
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"} if lasting == "tunnel" else {}
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream, breaker={"success_threshold": 1})) as app:
        upstream.on("/tunnel", tunnel())
        upstream.on("/events", head(200, stream), chunk(b"data: 1\n\n"), gate, last_chunk())
        await half_open(app)
        async with RawClient(app.port) as client:
            await client.send_request("GET", f"/{lasting}", upgrade)
            await client.read_head()

            assert await state_of(app) == "closed"
        gate.open()


# --- beside other policies ------------------------------------------------------------------------------------------


async def test_each_attempt_counts_and_a_refusal_is_not_retried() -> None:
    retry = {"max_attempts": 6, "base_delay": "1ms", "max_delay": "1ms", "retry_on": [500]}
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream, retry=retry)) as app:
        upstream.on("/fails", reply(500))

        await get(app.port, "/fails")
        assert len(upstream.requests) == 3
        assert await state_of(app) == "open"
        refused = await get(app.port, "/fails")

        assert refused.json()["type"] == "urn:tidegate:problem:breaker-open"
        assert len(upstream.requests) == 3


async def test_shared_breaker_opens_for_all_routes_that_name_it() -> None:
    async with ScriptedUpstream() as upstream:
        routes: list[dict[str, Any]] = [
            {"name": "a", "match": "* /a/*", "breaker": "ml"},
            {"name": "b", "match": "* /b/*", "breaker": "ml"},
            {"name": "c", "match": "* /c/*", "breaker": {"consecutive_failures": 3}},
        ]
        file = json.loads(policies(upstream.url, routes=routes))
        file["breakers"] = {"ml": {"consecutive_failures": 2}}
        upstream.on("/a/fails", reply(500))
        async with running_app(json.dumps(file)) as app:
            await fail(app, 2, "/a/fails")

            assert [(await get(app.port, f"/{route}/x")).status for route in "abc"] == [503, 503, 200]
            assert await state_of(app, "ml") == "open"
            assert await state_of(app, "c") == "closed"


# --- shadow and reload ----------------------------------------------------------------------------------------------


async def test_in_shadow_everything_passes_and_the_same_is_counted() -> None:
    breaker = {"mode": "shadow"}
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream, breaker=breaker)) as app:
        upstream.on("/fails", reply(500))
        await fail(app, 5)

        assert (await get(app.port, "/")).status == 200
        assert len(upstream.requests) == 6
        assert await state_of(app, mode="shadow") == "open"
        assert await app.metric("proxy_policy_decisions_total", policy="breaker", decision="open", mode="shadow") == 3


async def test_reload_keeps_an_open_breaker_open() -> None:
    async with ScriptedUpstream() as upstream, running_app(guarded(upstream)) as app:
        upstream.on("/fails", reply(500))
        await fail(app, 3)

        app.write_policies(guarded(upstream, breaker={"consecutive_failures": 7, "break_duration": "1m"}))
        assert (await fetch(app.admin_port, "POST", "/reload")).status == 200

        assert await state_of(app) == "open"
        assert (await get(app.port, "/")).status == 503
        assert len(upstream.requests) == 3
