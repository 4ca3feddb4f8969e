"""A client that leaves in the middle of a response says nothing about the upstream, which may have stopped there."""

from tests.support.aftermath import until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, get
from tests.support.settings import policies
from tests.support.steps import hang, head, reply, send
from tests.support.upstream import ScriptedUpstream


async def leave_within_the_body(app: RunningApp) -> None:
    async with RawClient(app.port) as client:
        await client.send_request("GET", "/stops")
        assert (await client.read_head()).status == 200
    await wait_at_rest(app)


async def test_upstream_that_stops_within_its_answers_is_not_taken_for_healthy() -> None:
    breaker = {"consecutive_failures": 2, "failure_ratio": "off", "break_duration": "50ms", "success_threshold": 1}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route={"breaker": breaker})) as app:
        upstream.on("/fails", reply(500))
        upstream.on("/stops", head(200, {"Content-Length": "10"}), send(b"abc"), hang())

        await get(app.port, "/fails")
        await leave_within_the_body(app)
        await get(app.port, "/fails")
        await until_metric(app, 1, "proxy_breaker_state", state="half_open")
        await leave_within_the_body(app)  # a probe

        assert await app.metric("proxy_breaker_state", state="half_open") == 1
        assert (await get(app.port, "/")).status == 200
        await until_metric(app, 1, "proxy_breaker_state", state="closed")
