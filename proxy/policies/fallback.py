"""The last word on a failure: something less good, marked as such, in place of an error."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from proxy.config.policies import FallbackConfig
from proxy.config.policy_types import Mode
from proxy.errors import ProxyError
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.fallback_steps import Step, is_failure
from proxy.protocol.problem import PROXY_NAME
from proxy.protocol.structured import BareItem, Token, serialize_item
from proxy.telemetry.events import Decision
from proxy.telemetry.instruments import RouteMetrics

_FAILED: Final = frozenset({500, 502, 503, 504})
"""Statuses of the upstream that something else may stand in for."""
_FIRST_FAILED: Final = min(_FAILED)

_DEGRADED: Final = b"X-Degraded"
_NO_STORE: Final = (b"Cache-Control", b"no-store")
_REPLACED: Final = frozenset({b"cache-control", b"expires", b"surrogate-control", _DEGRADED.lower()})
_TARGETED: Final = b"-cache-control"
"""The end of a name by which one cache is told more than all others (RFC 9213): it would outweigh Cache-Control."""


class Fallback:
    """Answers in place of our refusals, of errors from below and of the upstream's 500, 502, 503 and 504.

    The steps are tried in their order. When none has an answer, the failure passes as if nobody had asked.
    """

    __slots__ = ("_enforces", "_inner", "_methods", "_metrics", "_steps")

    def __init__(
        self, inner: Handler, config: FallbackConfig, steps: Sequence[Step], metrics: RouteMetrics, *, mode: Mode
    ) -> None:
        self._inner = inner
        self._methods = frozenset(config.methods)
        self._steps = tuple(steps)
        self._metrics = metrics
        self._enforces = mode == "enforce"

    async def handle(self, exchange: Exchange) -> Response:
        """Pass the exchange on, and answer in its place when it fails."""
        deadline = exchange.deadline
        try:
            response = await self._inner.handle(exchange)
        except ProxyError as error:
            if not (is_failure(error) and self._covers(exchange)):
                raise
            exchange.deadline = deadline
            answer = await self._replacement(exchange, error, 0)
            if answer is None:
                raise
            return answer
        status = response.status
        if status < _FIRST_FAILED or status not in _FAILED or not self._covers(exchange):
            return response
        return await self._replaced(exchange, response, deadline)

    def _covers(self, exchange: Exchange) -> bool:
        # Who asks for a WebSocket could make nothing of any answer but the real one.
        return exchange.request.method in self._methods and not exchange.request.upgrade

    async def _replaced(self, exchange: Exchange, failed: Response, deadline: float | None) -> Response:
        """The replacement of `failed`, or itself: a body that is not in memory stays open until there is one."""
        if self._enforces and isinstance(failed.body, bytes):
            failed.close()  # its permit is not for those who wait for another upstream
        # The head of an event stream has lifted the deadline; for other answers it still holds.
        lifted, exchange.deadline = exchange.deadline, deadline
        try:
            answer = await self._replacement(exchange, None, failed.status)
        except BaseException:
            failed.close()
            raise
        if answer is None:
            exchange.deadline = lifted
            return failed
        failed.close()
        return answer

    async def _replacement(self, exchange: Exchange, failure: ProxyError | None, status: int) -> Response | None:
        if not self._enforces:
            self._report(exchange, failure, status)
            return None
        for step in self._steps:
            answer = await step.answer(exchange, failure, status)
            if answer is not None:
                kind = step.kind
                cause = _cause(failure, status)
                exchange.decide(_decision(kind, "enforce", cause))
                self._metrics.fallbacks[kind] = self._metrics.fallbacks.get(kind, 0) + 1
                token = "" if failure is None else failure.token
                _mark(answer, kind, _proxy_status(kind, cause, token, status or exchange.upstream_status, step.is_own))
                return answer
        return None

    def _report(self, exchange: Exchange, failure: ProxyError | None, status: int) -> None:
        for step in self._steps:
            if step.is_possible(exchange):
                exchange.decide(_decision(step.kind, "shadow", _cause(failure, status)))
                return

    def __repr__(self) -> str:
        return f"<Fallback {[step.kind for step in self._steps]} enforces={self._enforces}>"


def _cause(failure: ProxyError | None, status: int) -> str:
    return f"status {status}" if failure is None else failure.slug


@lru_cache(maxsize=256)
def _decision(kind: str, mode: str, cause: str) -> Decision:
    return Decision("fallback", kind, mode, cause)


def _mark(answer: Response, kind: str, proxy_status: bytes) -> None:
    """Say what it is, and keep it from being taken for the real answer later on."""
    fields = [field for field in answer.headers if not _is_replaced(field[0].lower())]
    fields += [_NO_STORE, (_DEGRADED, kind.encode()), (b"Proxy-Status", proxy_status)]
    answer.headers = fields


def _is_replaced(name: bytes) -> bool:
    return name in _REPLACED or name.endswith(_TARGETED)


@lru_cache(maxsize=256)
def _proxy_status(kind: str, cause: str, token: str, received: int, is_own: bool) -> bytes:
    """Why the answer is not the upstream's (RFC 9209). `token` is the type of our error, if it was one.

    `proxy_internal_response` would say that nobody was asked (section 2.3), so the failure's own type stands here.
    Many of these types also say that the proxy made the response (section 2.1.1): another upstream's goes without.
    """
    params: dict[str, BareItem] = {}
    if is_own and token:
        params["error"] = Token(token)
    if is_own and received:
        params["received-status"] = received
    params["details"] = f"fallback: {kind}" if is_own else f"fallback: {kind}, after {cause}"
    return serialize_item(PROXY_NAME, params).encode()
