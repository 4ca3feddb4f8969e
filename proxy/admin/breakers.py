"""The breakers on the admin listener: what they are doing, and the hand that forces them for a while."""

from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import orjson
from aiohttp import web

from proxy.admin.responses import json_response
from proxy.config.quantities import parse_duration
from proxy.resilience.breaker import BreakerSnapshot

MAX_FORCE: Final = 86_400.0
"""Seconds: whoever forces a breaker goes home at some time."""

ForcedState = Literal["isolated", "closed"]

_FORCED_STATES: Final[dict[object, ForcedState]] = {"isolated": "isolated", "closed": "closed"}
_UNKNOWN: Final = "There is no breaker of that name."
_NO_STATE: Final = "Say `state`: isolated (nothing passes) or closed (everything passes)."
_NO_DURATION: Final = "Say `for` how long, such as 30s, 10m or 1h: more than nothing, and at most 1d."
_NO_JSON: Final = 'The body is no JSON object such as {"state": "isolated", "for": "10m"}.'


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """One breaker as /breakers shows it. Durations are seconds from now."""

    name: str
    mode: str
    state: str
    in_state_for: float
    opens_for: float | None
    """How long it stays open; None unless open."""
    forced_for: float | None
    """How long it stays as it was forced to be; None unless forced."""
    trip_reason: str | None
    calls: int
    failures: int
    slow_calls: int
    failure_ratio: float | None
    slow_call_ratio: float | None
    consecutive_failures: int
    worker: int | None = None
    """Whose it is, where there are several: each worker has its own."""


def breaker_status(name: str, mode: str, snapshot: BreakerSnapshot, now: float) -> BreakerStatus:
    """The view of a snapshot that was taken `now`."""
    return BreakerStatus(
        name=name,
        mode=mode,
        state=snapshot.state,
        in_state_for=_rounded(now - snapshot.since),
        opens_for=_left(snapshot.opens_until, now),
        forced_for=_left(snapshot.forced_until, now),
        trip_reason=snapshot.trip_reason,
        calls=snapshot.calls,
        failures=snapshot.failures,
        slow_calls=snapshot.slow_calls,
        failure_ratio=snapshot.failure_ratio,
        slow_call_ratio=snapshot.slow_call_ratio,
        consecutive_failures=snapshot.consecutive_failures,
    )


class BreakerView(Protocol):
    """The breakers of the running process."""

    async def breakers(self) -> list[BreakerStatus]:
        """All that are in force; a name appears once for each mode and worker."""
        ...

    async def force_breaker(self, name: str, state: ForcedState, seconds: float) -> bool:
        """Force it for that long; False: there is none of that name."""
        ...

    async def release_breaker(self, name: str) -> bool:
        """End the force, if there is any; False: there is no breaker of that name."""
        ...


def breaker_routes(view: BreakerView) -> list[web.RouteDef]:
    """What the admin listener serves of them."""
    handlers = _Breakers(view)
    return [
        web.get("/breakers", handlers.list_all),
        web.post("/breakers/{name}/force", handlers.force),
        web.post("/breakers/{name}/release", handlers.release),
    ]


class _Breakers:
    def __init__(self, view: BreakerView) -> None:
        self._view = view

    async def list_all(self, _: web.Request) -> web.Response:
        return json_response({"breakers": await self._view.breakers()})

    async def force(self, request: web.Request) -> web.Response:
        """200 with the breaker as it is now, 404 for an unknown one, 400 for no JSON, 422 for what makes no sense."""
        wishes = await _wishes(request)
        state, seconds = _state(wishes.get("state")), _seconds(wishes.get("for"))
        name = request.match_info["name"]
        return await self._show(name, known=await self._view.force_breaker(name, state, seconds))

    async def release(self, request: web.Request) -> web.Response:
        """200 with the breaker as it is now, 404 for an unknown one."""
        name = request.match_info["name"]
        return await self._show(name, known=await self._view.release_breaker(name))

    async def _show(self, name: str, *, known: bool) -> web.Response:
        if not known:
            raise web.HTTPNotFound(text=_UNKNOWN)
        return json_response({"breakers": [each for each in await self._view.breakers() if each.name == name]})


async def _wishes(request: web.Request) -> dict[str, Any]:
    """The JSON body, else the query. Raises HTTPBadRequest."""
    body = await request.read()
    if not body:
        return dict(request.query)
    try:
        wishes = orjson.loads(body)
    except ValueError:
        wishes = None
    if not isinstance(wishes, dict):
        raise web.HTTPBadRequest(text=_NO_JSON)
    return wishes


def _state(wish: object) -> ForcedState:
    """Raises HTTPUnprocessableEntity."""
    state = _FORCED_STATES.get(wish) if isinstance(wish, str) else None
    if state is None:
        raise web.HTTPUnprocessableEntity(text=_NO_STATE)
    return state


def _seconds(wish: object) -> float:
    """Raises HTTPUnprocessableEntity."""
    try:
        seconds = parse_duration(wish)
    except ValueError:  # its text repeats what was sent
        seconds = 0.0
    if not 0 < seconds <= MAX_FORCE:
        raise web.HTTPUnprocessableEntity(text=_NO_DURATION)
    return seconds


def _left(until: float | None, now: float) -> float | None:
    return None if until is None else _rounded(until - now)


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
