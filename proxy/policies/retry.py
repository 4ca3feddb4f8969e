"""Makes a failed attempt again when that is harmless, likely to help, in time, and within the route's budget."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from proxy.config.policies import RetryConfig
from proxy.config.policy_types import Mode
from proxy.errors import CoolingDown, ProxyError, Source
from proxy.exchange import Exchange, Handler, RequestBody, Response
from proxy.policies.replay import REPLAY_LIMIT, ReplayBody
from proxy.protocol.retry_after import find_retry_after
from proxy.resilience.retry_rules import RetryRules
from proxy.resilience.retry_state import RetryState
from proxy.telemetry.events import Decision
from proxy.telemetry.instruments import RouteMetrics

log = logging.getLogger("tidegate.retry")

_UNAVAILABLE: Final = 503


class Retry:
    """Passes an exchange on again and again, up to `max_attempts`; refuses it while the upstream cools down.

    `clock` is monotonic, `wall_clock` Unix time, both in seconds; `random` is uniform in [0, 1).
    """

    __slots__ = (
        "_clock",
        "_config",
        "_cool_down",
        "_deposit",
        "_inner",
        "_is_shadow",
        "_keeps_bodies",
        "_metrics",
        "_mode",
        "_random",
        "_rules",
        "_sleep",
        "_state",
        "_wall_clock",
        "_watched",
        "_words",
    )

    def __init__(
        self,
        inner: Handler,
        config: RetryConfig,
        state: RetryState,
        metrics: RouteMetrics,
        *,
        mode: Mode,
        clock: Callable[[], float],
        random: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._config = config
        self._rules = RetryRules(config)
        self._state = state
        self._cool_down = state.cool_down
        self._deposit = state.budget.deposit
        self._metrics = metrics
        self._mode = mode
        self._is_shadow = mode == "shadow"
        self._keeps_bodies = mode != "shadow" and config.max_attempts > 1
        self._clock = clock
        self._wall_clock = wall_clock
        self._random = random
        self._sleep = sleep
        self._watched = self._rules.statuses | {_UNAVAILABLE}
        """Statuses that are worth a look: all others are the ordinary course."""
        self._words: dict[tuple[str, str], Decision] = {}

    async def handle(self, exchange: Exchange) -> Response:
        """Answer with the first outcome that stands. Raises CoolingDown, or the error of the last attempt."""
        now = self._clock()
        is_probe = self._cool_down.is_on(now) and self._enter(exchange, now)
        if is_probe is None:
            return await self._inner.handle(exchange)
        if exchange.received_attempt <= 1:
            self._deposit(now)
        body = exchange.request.body
        replay = None if body is None else self._keep(exchange, body)
        deadline = exchange.deadline  # the head of an event stream lifts it, also when that response is discarded
        attempt = 1
        while True:
            try:
                response = await self._inner.handle(exchange)
            except ProxyError as error:
                wait = self._after(exchange, error, attempt, deadline, is_probe=is_probe)
                if wait is None:
                    raise
            else:
                if response.status not in self._watched and not is_probe:
                    if replay is not None:
                        replay.forget()
                    return response
                wait = self._after(exchange, response, attempt, deadline, is_probe=is_probe)
                if wait is None:
                    return response
                response.close()
            await self._sleep(wait)
            is_probe = self._begin_again(exchange, replay, deadline)
            attempt += 1

    # --- before an attempt ---

    def _enter(self, exchange: Exchange, now: float) -> bool | None:
        """True for a probe of the cool-down. Any other exchange is refused: None in shadow, else raises CoolingDown."""
        if self._cool_down.take_probe(now):
            return True
        self._say(exchange, "cooling_down")
        if self._is_shadow:
            return None
        raise CoolingDown(
            "The upstream has asked to be left alone for a while.", retry_after=self._cool_down.remaining(now)
        )

    def _keep(self, exchange: Exchange, body: RequestBody) -> ReplayBody | None:
        """Have the body kept where there can be a second attempt."""
        if exchange.received_attempt > 1 or not self._keeps_bodies:
            return None
        exchange.request.body = replay = ReplayBody(body)
        return replay

    def _begin_again(self, exchange: Exchange, replay: ReplayBody | None, deadline: float | None) -> bool:
        """Undo what the last attempt left in the exchange. Whether the next one is a probe; raises CoolingDown."""
        exchange.deadline = deadline
        exchange.attempt_started = 0.0
        exchange.upstream_status = 0
        if replay is not None:
            replay.rewind()
        now = self._clock()
        return self._cool_down.is_on(now) and bool(self._enter(exchange, now))

    # --- after an attempt ---

    def _after(
        self,
        exchange: Exchange,
        outcome: Response | ProxyError,
        attempt: int,
        deadline: float | None,
        *,
        is_probe: bool,
    ) -> float | None:
        """Seconds until the next attempt, None when this outcome stands."""
        now, request = self._clock(), exchange.request
        if isinstance(outcome, Response):
            asked = self._heed(exchange, outcome, now, is_probe=is_probe)
            cause = self._rules.cause_of_status(outcome.status, request)
        else:
            asked = 0.0
            if is_probe and outcome.source is Source.UPSTREAM:
                self._cool_down.restart(now, 0)
            cause = self._rules.cause_of_error(outcome, request)
        if not cause or exchange.received_attempt > 1:  # a trusted caller that retries is the one who does so
            return None
        if _is_replayable(request.body):
            wait = self._state.next_wait(self._config, attempt, asked, now, deadline, self._random)
        else:
            wait = "not_replayable"
        if isinstance(wait, str):
            self._say(exchange, wait)
            return None
        if attempt == 1:
            self._say(exchange, "retried", cause)
        if self._is_shadow:
            return None
        self._metrics.retries[cause] = self._metrics.retries.get(cause, 0) + 1
        return wait

    def _heed(self, exchange: Exchange, response: Response, now: float, *, is_probe: bool) -> float:
        """Seconds for which the upstream may ask to be left alone; a 503 that does so cools the route down."""
        asked = 0.0
        if response.status in self._watched:
            asked = find_retry_after(response.headers, self._wall_clock()) or 0.0
            asked = min(asked, self._config.max_retry_after)
        seconds = asked if response.status == _UNAVAILABLE else 0.0
        if is_probe:
            self._cool_down.restart(now, seconds)
        elif seconds and self._cool_down.start(now, seconds):
            self._say(exchange, "cool_down_began")
            log.warning(
                "the upstream asks to be left alone: the route cools down",
                extra={"route": exchange.route.name, "mode": self._mode, "seconds": round(seconds, 3)},
            )
        return asked

    def _say(self, exchange: Exchange, word: str, cause: str = "") -> None:
        decision = self._words.get((word, cause))
        if decision is None:
            decision = self._words[word, cause] = Decision("retry", word, self._mode, cause)
        exchange.decide(decision)

    def __repr__(self) -> str:
        return f"<Retry {self._mode} {self._state!r}>"


def _is_replayable(body: RequestBody | None) -> bool:
    if isinstance(body, ReplayBody):
        return body.is_replayable
    return body is None or body.received <= REPLAY_LIMIT
