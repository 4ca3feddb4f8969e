"""What a mutation makes outdated, as a layer: nobody who has its answer is shown from a cache what it has changed."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final

from proxy.config.caching import InvalidateConfig
from proxy.config.policy_types import Mode
from proxy.errors import ProxyError
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.caching.targets import Targets
from proxy.policies.outcome import FIRST_FAILURE_STATUS
from proxy.protocol.caching.invalidation import invalidated, is_unsafe
from proxy.protocol.caching.stored import Validity
from proxy.protocol.caching.tags import fill_in, tag_of_pattern
from proxy.protocol.headers import RawHeaders
from proxy.storage.purges import Purges
from proxy.telemetry.events import Decision

log = logging.getLogger("tidegate.cache")

_FIRST_SUCCESS: Final = 200
_FIRST_ERROR: Final = 400
_DONE: Final = "done"
_UNKNOWN: Final = "unknown_outcome"
_CAUSES: Final = {_DONE: "mutation", _UNKNOWN: _UNKNOWN}
_TOLD: Final = {word: Decision("invalidate", word) for word in (_DONE, _UNKNOWN)}
_LOCAL: Final = {
    _DONE: Decision("invalidate", "local"),
    _UNKNOWN: Decision("invalidate", "local", detail=_UNKNOWN),
}
_SHADOW: Final = {word: Decision("invalidate", word, mode="shadow") for word in (_DONE, _UNKNOWN)}


class Invalidate:
    """Purges the tags of `config`, and always what RFC 9111 section 4.4 demands, before the answer goes on.

    It does so after 2xx and 3xx, and whenever the upstream may have done what it was asked and nobody knows. In shadow
    the tags of `config` are only reported; what the RFC demands is no policy that could be tried out.
    """

    __slots__ = ("_clock", "_enforces", "_inner", "_purges", "_targets", "_templates")

    def __init__(
        self,
        inner: Handler,
        config: InvalidateConfig | None,
        purges: Purges,
        targets: Targets,
        *,
        mode: Mode,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._inner = inner
        self._templates = () if config is None else tuple(tag_of_pattern(pattern) for pattern in config.tags)
        self._purges = purges
        self._targets = targets
        self._enforces = mode == "enforce"
        self._clock = clock

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, Response]:
        """Pass the exchange on. Whoever leaves meanwhile ends no purge that has begun."""
        return self._change(exchange) if is_unsafe(exchange.request.method) else self._inner.handle(exchange)

    async def _change(self, exchange: Exchange) -> Response:
        try:
            response = await self._inner.handle(exchange)
        except ProxyError as error:
            if _was_sent(exchange, error):
                await self._purge(exchange, _UNKNOWN, ())
            raise
        except BaseException as error:
            if _was_sent(exchange, error):
                self._begin(exchange, _UNKNOWN, ())
            raise
        word = _word(exchange, response.status)
        if word:
            try:
                await self._purge(exchange, word, response.headers if word is _DONE else ())
            except BaseException:
                response.close()
                raise
        return response

    async def _purge(self, exchange: Exchange, word: str, response_fields: RawHeaders) -> None:
        """Have it done, or as much of it as there is time for; the rest goes on by itself."""
        task = self._begin(exchange, word, response_fields)
        if task is None:
            return
        deadline = exchange.deadline
        await asyncio.wait([task], timeout=None if deadline is None else max(0.0, deadline - self._clock()))
        exchange.decide((_TOLD if _has_succeeded(task) else _LOCAL)[word])

    def _begin(self, exchange: Exchange, word: str, response_fields: RawHeaders) -> "asyncio.Task[bool] | None":
        """Outdate everything in this process at once, and begin to tell the others; None: there is nothing."""
        tags = self._declared(exchange, word)
        request, scheme = exchange.request, exchange.scheme
        for target in invalidated(request.authority, scheme, request.target, response_fields):
            tags += self._targets.tags_of(request.authority, scheme, target)
        if not tags:
            return None
        return self._purges.begin(list(dict.fromkeys(tags)), Validity.INVALID, cause=_CAUSES[word])

    def _declared(self, exchange: Exchange, word: str) -> list[str]:
        """The tags that the route names, filled in; in shadow they are not touched."""
        if self._templates and not self._enforces:
            exchange.decide(_SHADOW[word])
            return []
        return [fill_in(template, exchange.params) for template in self._templates]

    def __repr__(self) -> str:
        return f"<Invalidate {list(self._templates)} enforces={self._enforces}>"


def _word(exchange: Exchange, status: int) -> str:
    """What a response says about the mutation; empty when nothing has changed.

    A status from 600 on is treated as a 5xx (RFC 9110 section 15). A refusal is one only of the last attempt.
    """
    if _FIRST_SUCCESS <= status < _FIRST_ERROR:
        return _DONE
    if status >= FIRST_FAILURE_STATUS or (status >= _FIRST_ERROR and _repeats(exchange) and exchange.attempt > 1):
        return _UNKNOWN
    return ""


def _was_sent(exchange: Exchange, error: BaseException) -> bool:
    """Whether the upstream may have got the request, in the last attempt or in one before."""
    if not exchange.upstream_endpoint:  # nobody has been asked
        return False
    is_last = exchange.attempt_started != 0  # whatever refuses an attempt leaves it at 0
    if is_last and (not isinstance(error, ProxyError) or error.request_written):
        return True
    return _repeats(exchange) and exchange.attempt > is_last


def _repeats(exchange: Exchange) -> bool:
    """Whether the route repeats such a request also when it has been sent."""
    retry = exchange.route.retry
    return retry is not None and exchange.request.method in retry.methods


def _has_succeeded(task: "asyncio.Task[bool]") -> bool:
    if not task.done() or task.cancelled():
        return False
    error = task.exception()
    if error is not None:
        log.error("Bug: a purge has failed", exc_info=error)
        return False
    return task.result()
