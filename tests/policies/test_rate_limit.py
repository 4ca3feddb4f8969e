"""The rate limit as a layer: what it refuses, what it says, and what it leaves alone."""

import asyncio
from typing import Any

import pytest

from proxy.config.policies import RateLimitConfig
from proxy.config.policy_types import ClientKey, Mode, Rate
from proxy.errors import ConnectionRefused, RateLimited
from proxy.exchange import Exchange, Response
from proxy.policies.rate_limit import RateLimit
from proxy.protocol.problem import problem_response
from proxy.resilience.limiter import LimiterState
from tests.support.clock import ManualClock
from tests.support.exchange import PiecewiseBody, ScriptedHandler, make_exchange

RANDOM = 0.5


def limit(rate: str, *keys: str, **settings: Any) -> RateLimitConfig:
    key = tuple(ClientKey.parse(each) for each in keys or ("client_ip",))
    return RateLimitConfig(rate=Rate.parse(rate), key=key, **settings)


class Limited:
    """A layer with a clock and a handler of its own."""

    def __init__(
        self, *limits: RateLimitConfig, handler: ScriptedHandler | None = None, mode: Mode = "enforce"
    ) -> None:
        self.clock = ManualClock()
        self.handler = handler or ScriptedHandler(self.answer)
        self.state = LimiterState(limits, self.clock())
        self.headers = [(b"X-Mark", b"1")]
        self.layer = RateLimit(
            self.handler, "search", limits, self.state, None, mode=mode, clock=self.clock, random=lambda: RANDOM
        )

    async def answer(self, exchange: Exchange) -> Response:
        return Response(200, self.headers)

    async def ask(self, exchange: Exchange | None = None) -> Response:
        return await self.layer.handle(exchange or client())

    async def refusal(self, exchange: Exchange | None = None) -> RateLimited:
        with pytest.raises(RateLimited) as caught:
            await self.ask(exchange)
        return caught.value


def client(ip: str = "192.0.2.1", method: str = "GET", **settings: Any) -> Exchange:
    exchange = make_exchange(method, **settings)
    exchange.client_ip = ip
    return exchange


def added(response: Response) -> list[tuple[bytes, bytes]]:
    return [field for field in response.headers if field[0].startswith(b"RateLimit")]


async def test_admitted_request_is_told_what_is_left() -> None:
    limited = Limited(limit("20/min"))

    assert added(await limited.ask()) == [
        (b"RateLimit-Policy", b'"search";q=20;w=60'),
        (b"RateLimit", b'"search";r=19;t=3'),
    ]
    assert added(await limited.ask())[1] == (b"RateLimit", b'"search";r=18;t=6')


async def test_headers_of_the_upstream_stay_and_are_not_written_to() -> None:
    limited = Limited(limit("20/min"))
    limited.headers.append((b"RateLimit", b'"upstream";r=1;t=9'))

    response = await limited.ask()

    assert [value for name, value in response.headers if name == b"RateLimit"] == [
        b'"upstream";r=1;t=9',
        b'"search";r=19;t=3',
    ]
    assert len(limited.headers) == 2


async def test_client_over_its_limit_is_refused_without_the_upstream() -> None:
    limited = Limited(limit("2/min", burst=1))
    await limited.ask()

    exchange = client()
    error = await limited.refusal(exchange)

    assert len(limited.handler.exchanges) == 1
    assert [(each.policy, each.decision, each.mode) for each in exchange.decisions or ()] == [
        ("rate_limit", "limited", "enforce")
    ]
    assert error.detail == "This client is over its limit of 2/min on this route."


async def test_refusal_names_one_second_in_both_fields() -> None:
    limited = Limited(limit("20/min", burst=1))
    await limited.ask()
    limited.clock.advance(0.5)

    error = await limited.refusal()

    head = dict(problem_response(error, "id")[0])
    assert head[b"Retry-After"] == b"3"
    assert head[b"RateLimit"] == b'"search";r=0;t=3'
    assert head[b"RateLimit-Policy"] == b'"search";q=20;w=60'


async def test_long_waits_are_spread() -> None:
    limited = Limited(limit("1/hour"))
    await limited.ask()

    error = await limited.refusal()

    head = dict(problem_response(error, "id")[0])
    assert error.retry_after == pytest.approx(3600 * (1 + 0.1 * RANDOM), abs=1e-3)
    assert head[b"RateLimit"].endswith(b";t=" + head[b"Retry-After"])


async def test_refused_client_passes_when_it_does_as_told() -> None:
    limited = Limited(limit("7/min", burst=2))
    await limited.ask()
    await limited.ask()

    error = await limited.refusal()
    assert error.retry_after is not None
    limited.clock.advance(error.retry_after)

    assert (await limited.ask()).status == 200


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST"])
async def test_every_method_counts(method: str) -> None:
    limited = Limited(limit("1/min"))
    await limited.ask()

    await limited.refusal(client(method=method))


async def test_refusal_reads_nothing_of_the_body() -> None:
    limited = Limited(limit("1/min"))
    await limited.ask()
    body = PiecewiseBody(b"x" * 100)

    await limited.refusal(client(method="POST", body=body))

    assert body.received == 0


async def test_clients_are_told_apart_by_the_key() -> None:
    limited = Limited(limit("1/min", "header:X-User"))

    await limited.ask(client(headers={"X-User": "a"}))
    await limited.ask(client(headers={"X-User": "b"}))

    await limited.refusal(client("192.0.2.99", headers={"X-User": "a"}))


async def test_several_limits_report_the_scarcest_and_refuse_for_the_longest() -> None:
    limited = Limited(limit("10/min"), limit("3/hour", "header:X-User"))
    anna = {"X-User": "anna"}

    policy, scarcest = added(await limited.ask(client(headers=anna)))
    await limited.ask(client(headers=anna))
    await limited.ask(client(headers=anna))
    error = await limited.refusal(client("192.0.2.2", headers=anna))

    assert policy[1] == b'"search";q=10;w=60, "search-2";q=3;w=3600'
    assert scarcest[1] == b'"search-2";r=2;t=1200'
    assert error.detail == "This client is over its limit of 3/hour on this route."
    assert (await limited.ask(client("192.0.2.2"))).status == 200


async def test_error_from_below_passes_and_the_request_stays_counted() -> None:
    limited = Limited(limit("1/min"), handler=ScriptedHandler(ConnectionRefused()))

    with pytest.raises(ConnectionRefused):
        await limited.ask()

    await limited.refusal()


async def test_cancelled_request_stays_counted() -> None:
    async def never(_: Exchange) -> Response:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    limited = Limited(limit("1/min"), handler=ScriptedHandler(never))
    task = asyncio.ensure_future(limited.ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await limited.refusal()


async def test_shadow_reports_and_changes_nothing() -> None:
    limited = Limited(limit("1/min"), mode="shadow")
    exchanges = [client() for _ in range(3)]

    responses = [await limited.ask(exchange) for exchange in exchanges]

    assert all(response.headers is limited.headers for response in responses)
    assert [[(each.decision, each.mode) for each in exchange.decisions or ()] for exchange in exchanges] == [
        [],
        [("limited", "shadow")],
        [("limited", "shadow")],
    ]


async def test_shadow_would_refuse_what_enforce_refuses() -> None:
    enforced, shadowed = Limited(limit("5/min", burst=2)), Limited(limit("5/min", burst=2), mode="shadow")
    refused = []
    for step in range(50):
        exchange = client()
        for limited in (enforced, shadowed):
            limited.clock.advance(step % 7)
        await shadowed.ask(exchange)
        try:
            await enforced.ask()
        except RateLimited:
            refused.append((True, bool(exchange.decisions)))
        else:
            refused.append((False, bool(exchange.decisions)))

    assert {one == other for one, other in refused} == {True}
    assert (True, True) in refused


def test_shows_its_mode_and_limits() -> None:
    assert repr(Limited(limit("1/min")).layer) == "<RateLimit enforce <LimiterState 1/min clients=0>>"
    assert repr(Limited(limit("1/min"), mode="shadow").layer).startswith("<RateLimit shadow ")
