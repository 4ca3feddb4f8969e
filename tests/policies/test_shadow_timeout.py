"""Time limits in shadow: what is lifted, what is reported, and that nothing else happens."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.config.model import RouteConfig
from proxy.config.policies import TimeoutConfig
from proxy.errors import BreakerOpen, ConnectionTerminated
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.enforcement import ClientPlace
from proxy.policies.shadow_timeout import NO_LIMITS, ShadowTimeouts
from proxy.policies.timeout import Attempt
from tests.support.clock import ManualClock
from tests.support.exchange import ScriptedHandler, make_exchange

ROUTE = RouteConfig(name="search", match=("* /*",), upstream="api")


class Pieces:
    """A body whose pieces come after so many seconds each; an error in place of a piece is raised."""

    def __init__(self, clock: ManualClock, *pieces: tuple[float, bytes | BaseException]) -> None:
        self._clock = clock
        self._pieces = list(pieces)

    async def read(self) -> bytes:
        seconds, piece = self._pieces.pop(0) if self._pieces else (0.0, b"")
        self._clock.advance(seconds)
        if isinstance(piece, BaseException):
            raise piece
        return piece


class PiecesTunnel(Pieces):
    """The same as the upstream side of a tunnel."""

    def __init__(self, clock: ManualClock, *pieces: tuple[float, bytes | BaseException]) -> None:
        super().__init__(clock, *pieces)
        self.written: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.written.append(data)

    def write_eof(self) -> None:
        self.written.append(b"")


def after(
    clock: ManualClock, seconds: float, outcome: Response | Exception
) -> Callable[[Exchange], Awaitable[Response]]:
    """An upstream that takes that long."""

    async def step(_exchange: Exchange) -> Response:
        clock.advance(seconds)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return step


def shadow(inner: Handler, clock: ManualClock, share: float = 1.0, **limits: float | str | None) -> ShadowTimeouts:
    config = TimeoutConfig.model_validate(
        {"total": None, "idle": None, "mode": "shadow" if share == 1 else "enforce", **limits}
    )
    return ShadowTimeouts(inner, config, share, ClientPlace(ROUTE), clock=clock)


def attempt_of(clock: ManualClock, seconds: float, outcome: Response | Exception) -> Attempt:
    return Attempt(ScriptedHandler(after(clock, seconds, outcome)), clock)


def opened(clock: ManualClock) -> Exchange:
    """As the edge opens it."""
    exchange = make_exchange(route=ROUTE, started=clock.now)
    exchange.client_ip = "192.0.2.1"
    exchange.deadline = clock.now + 1.0
    exchange.timeout = TimeoutConfig(total=1.0, idle=1.0)
    return exchange


def told(exchange: Exchange) -> list[tuple[str, str, str]]:
    return [(each.policy, each.decision, each.mode) for each in exchange.decisions or ()]


def fired(kind: str) -> list[tuple[str, str, str]]:
    return [("timeout", kind, "shadow")]


async def read_all(response: Response) -> bytes:
    assert not isinstance(response.body, bytes)
    pieces = []
    while piece := await response.body.read():
        pieces.append(piece)
    return b"".join(pieces)


# --- what is lifted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("callers", [None, 1003.0])
async def test_limits_of_the_route_are_lifted_and_the_callers_stays(callers: float | None) -> None:
    clock = ManualClock()
    inner = attempt_of(clock, 0, Response(200, []))
    exchange = opened(clock)
    exchange.caller_deadline = callers

    await shadow(inner, clock, total=1.0, attempt=0.5).handle(exchange)

    assert exchange.timeout is NO_LIMITS
    assert exchange.deadline == exchange.attempt_deadline == callers
    assert exchange.decisions is None


def test_no_limits_is_what_it_says() -> None:
    limits = (NO_LIMITS.total, NO_LIMITS.attempt, NO_LIMITS.first_byte, NO_LIMITS.idle)

    assert limits == (None, None, None, None)


@pytest.mark.parametrize(("place", "enforced"), [(0.0, True), (0.24, True), (0.25, False), (0.9, False)])
async def test_limits_stay_for_the_share_that_they_are_enforced_for(place: float, enforced: bool) -> None:
    clock = ManualClock()
    exchange = opened(clock)
    exchange.share = place
    before = (exchange.timeout, exchange.deadline)

    await shadow(attempt_of(clock, 5, Response(200, [])), clock, 0.25, total=1.0).handle(exchange)

    assert ((exchange.timeout, exchange.deadline) == before) is enforced
    assert told(exchange) == ([] if enforced else fired("total"))


async def test_shadow_is_for_everybody_whatever_the_share() -> None:
    clock = ManualClock()
    exchange = opened(clock)
    exchange.share = 0.0

    await shadow(attempt_of(clock, 5, Response(200, [])), clock, total=1.0, mode="shadow").handle(exchange)

    assert told(exchange) == fired("total")


# --- what is reported -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "seconds", "kind"),
    [
        ({"total": 2.0}, 1.9, None),
        ({"total": 2.0}, 2.1, "total"),
        ({"attempt": 2.0}, 1.9, None),
        ({"attempt": 2.0}, 2.1, "attempt"),
        ({"first_byte": 2.0}, 1.9, None),
        ({"first_byte": 2.0}, 2.1, "first_byte"),
        ({"idle": 2.0}, 9.0, None),
        ({"total": 3.0, "attempt": 2.0, "first_byte": 1.0}, 9.0, "first_byte"),
        ({"total": 3.0, "attempt": 1.0, "first_byte": 2.0}, 9.0, "attempt"),
        ({"total": 1.0, "attempt": 2.0, "first_byte": 3.0}, 9.0, "total"),
        ({"total": 2.0, "attempt": 2.0, "first_byte": 2.0}, 9.0, "total"),
        ({}, 9.0, None),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
async def test_first_limit_that_passes_before_the_head_is_reported(
    limits: dict[str, float], seconds: float, kind: str | None, fails: bool
) -> None:
    clock = ManualClock()
    exchange = opened(clock)
    response = Response(200, [(b"X", b"y")], b"body")
    layer = shadow(attempt_of(clock, seconds, ConnectionTerminated() if fails else response), clock, **limits)

    if fails:
        with pytest.raises(ConnectionTerminated):
            await layer.handle(exchange)
    else:
        assert await layer.handle(exchange) is response
        assert (response.status, response.headers, response.body) == (200, [(b"X", b"y")], b"body")

    assert told(exchange) == (fired(kind) if kind else [])


async def test_limits_of_an_attempt_count_from_its_beginning() -> None:
    clock = ManualClock()
    attempt = attempt_of(clock, 1.5, Response(200, []))

    async def queue(exchange: Exchange) -> Response:
        clock.advance(5)
        return await attempt.handle(exchange)

    exchange = opened(clock)
    await shadow(ScriptedHandler(queue), clock, attempt=2.0, first_byte=2.0).handle(exchange)
    assert told(exchange) == []

    await shadow(ScriptedHandler(queue), clock, attempt=1.0, first_byte=2.0).handle(exchange)
    assert told(exchange) == fired("attempt")


async def test_exchange_without_an_attempt_has_only_a_total() -> None:
    clock = ManualClock()
    refuse = ScriptedHandler(after(clock, 9, BreakerOpen()))
    exchange = opened(clock)

    with pytest.raises(BreakerOpen):
        await shadow(refuse, clock, attempt=1.0, first_byte=1.0).handle(exchange)
    assert told(exchange) == []

    exchange = opened(clock)
    with pytest.raises(BreakerOpen):
        await shadow(refuse, clock, total=1.0, attempt=0.5).handle(exchange)
    assert told(exchange) == fired("total")


async def test_client_that_leaves_after_the_limit_would_have_been_answered_before() -> None:
    clock = ManualClock()

    async def hang(_exchange: Exchange) -> Response:
        clock.advance(9)
        raise asyncio.CancelledError

    exchange = opened(clock)
    with pytest.raises(asyncio.CancelledError):
        await shadow(ScriptedHandler(hang), clock, total=2.0).handle(exchange)

    assert told(exchange) == fired("total")


@pytest.mark.parametrize(
    ("limits", "waits", "kind"),
    [
        ({"idle": 2.0}, (1.9, 1.9, 1.9), None),
        ({"idle": 2.0}, (1.0, 2.1, 1.0), "idle"),
        ({"idle": 2.0}, (1.0, 1.0, 2.1), "idle"),
        ({"total": 4.0}, (1.0, 1.0, 1.0), None),
        ({"total": 4.0}, (1.0, 1.0, 2.5), "total"),
        ({"attempt": 4.0}, (1.0, 1.0, 2.5), "attempt"),
        ({"total": 4.0, "idle": 2.0}, (1.0, 1.0, 2.5), "total"),
        ({"total": 9.0, "idle": 2.0}, (1.0, 1.0, 9.5), "idle"),
        ({"idle": 2.0}, (2.1, 2.1, 2.1), "idle"),
        ({"first_byte": 0.1, "idle": 2.0, "total": 3.0}, (2.1, 2.1, 2.1), "first_byte"),
    ],
)
async def test_first_limit_that_passes_within_the_body_is_reported_once(
    limits: dict[str, float], waits: tuple[float, ...], kind: str | None
) -> None:
    clock = ManualClock()
    exchange = opened(clock)
    response = Response(200, [], Pieces(clock, *((wait, b"x") for wait in waits)))

    await shadow(attempt_of(clock, 0.3, response), clock, **limits).handle(exchange)

    assert await read_all(response) == b"xxx"
    assert told(exchange) == (fired(kind) if kind else [])


async def test_client_that_takes_its_time_is_not_the_upstreams_silence() -> None:
    clock = ManualClock()
    exchange = opened(clock)
    response = Response(200, [], Pieces(clock, (0.1, b"x"), (0.1, b"x")))
    await shadow(attempt_of(clock, 0, response), clock, idle=1.0).handle(exchange)

    assert not isinstance(response.body, bytes)
    while await response.body.read():
        clock.advance(5)

    assert told(exchange) == []


@pytest.mark.parametrize("error", [ConnectionTerminated(), asyncio.CancelledError()])
async def test_error_within_the_body_passes_and_what_came_before_it_is_reported(error: BaseException) -> None:
    clock = ManualClock()
    exchange = opened(clock)
    response = Response(200, [], Pieces(clock, (3, error)))
    await shadow(attempt_of(clock, 0, response), clock, idle=2.0).handle(exchange)

    with pytest.raises(type(error)) as raised:
        await read_all(response)

    assert raised.value is error
    assert told(exchange) == fired("idle")


@pytest.mark.parametrize(("waits", "kind"), [((30, 30), None), ((30, 70), "idle")])
async def test_event_stream_leaves_its_deadlines_at_the_head(waits: tuple[float, float], kind: str | None) -> None:
    clock = ManualClock()
    exchange = opened(clock)
    body = Pieces(clock, *((wait, b"data: 1\n\n") for wait in waits))
    response = Response(200, [(b"content-type", b"Text/Event-Stream; charset=utf-8")], body)

    await shadow(attempt_of(clock, 1, response), clock, total=2.0, attempt=2.0, idle=60.0).handle(exchange)

    assert await read_all(response) == b"data: 1\n\n" * 2
    assert told(exchange) == (fired(kind) if kind else [])


async def test_tunnel_keeps_only_its_idle_limit() -> None:
    clock = ManualClock()
    tunnel = PiecesTunnel(clock, (50, b"a"), (50, b"b"), (50, b"c"), (61, b"d"))
    exchange = opened(clock)
    response = Response(101, [], tunnel=tunnel)
    await shadow(attempt_of(clock, 1, response), clock, total=2.0, attempt=2.0, idle=60.0).handle(exchange)
    assert response.tunnel is not None

    assert [await response.tunnel.read() for _ in range(2)] == [b"a", b"b"]
    clock.advance(59)
    await response.tunnel.write(b"up")
    response.tunnel.write_eof()
    assert await response.tunnel.read() == b"c"
    assert told(exchange) == [], "the client was not silent"

    assert await response.tunnel.read() == b"d"
    assert told(exchange) == fired("idle")
    assert tunnel.written == [b"up", b""]


async def test_body_is_closed_by_its_response_as_before() -> None:
    clock = ManualClock()
    closed: list[bool] = []
    response = Response(200, [], Pieces(clock))
    response.on_close(lambda: closed.append(True))

    (await shadow(attempt_of(clock, 0, response), clock, total=1.0).handle(opened(clock))).close()

    assert closed == [True]
