"""A fill: one request to the upstream on behalf of all who wait for its response, in a task that is nobody's own.

It goes on while anybody waits for it or reads from it, and a refresh in any case. What it costs, a permit and a
connection, is given back as soon as the body has come, whoever still reads it.
"""

import asyncio
import logging
import sys
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from proxy.errors import ClientDisconnected, DeadlineExceeded, InternalError, ProxyError
from proxy.exchange import Body, Exchange, Handler, Response
from proxy.policies.caching.fill_body import LATE, BoundedBody, SharedBody, copy_of
from proxy.policies.caching.keeper import TOO_LARGE, Head, Judged, Keeper, Kind, Outcome, refusal_of
from proxy.policies.outcome import FIRST_FAILURE_STATUS
from proxy.policies.timeout import BACKSTOP
from proxy.protocol.caching.stored import StoredResponse
from proxy.protocol.headers import is_event_stream

if TYPE_CHECKING:
    from proxy.policies.caching.fills import Fills

log = logging.getLogger("tidegate.cache")

_UNATTENDED: Final = frozenset({"refresh", "warm"})
"""Kinds for which nobody needs to wait."""


K = TypeVar("K", bound=Keeper)


class Fill(Generic[K]):
    """One fill. Whoever wants its response waits for `head`, and calls `join` before anything else is awaited.

    The one who began it waits for the head at once and may always join; others while it `is_joinable`, if the variant
    is theirs.
    """

    __slots__ = (
        "_arriving",
        "_body",
        "_completing",
        "_ended_at",
        "_fills",
        "_handed_over",
        "_handler",
        "_head",
        "_is_decided",
        "_is_ending",
        "_is_expected",
        "_is_unattended",
        "_max_body",
        "_task",
        "_whole",
        "error",
        "exchange",
        "keeper",
        "key",
        "kind",
    )

    def __init__(
        self,
        fills: "Fills[K]",
        exchange: Exchange,
        handler: Handler,
        keeper: K,
        *,
        key: bytes | None,
        kind: Kind,
        max_body: int,
    ) -> None:
        self._fills = fills
        self._handler = handler
        self.keeper = keeper
        self._max_body = max_body
        self.exchange = exchange
        """Its own."""
        self.key = key
        """None: it is for one client alone."""
        self.kind: Kind = kind
        self.error: ProxyError | None = None
        """What it has failed with, without a traceback."""
        self._task: asyncio.Task[None] | None = None
        self._head: Head | None = None
        self._body: SharedBody | None = None
        self._whole: StoredResponse | None = None
        self._handed_over: Response | None = None
        """The response as it comes, for the one who reads it without anything being kept."""
        self._arriving: dict[asyncio.Future[bool], None] = {}
        """Those who wait for the head, in the order in which they came: so they go on."""
        self._completing: dict[asyncio.Future[bool], None] = {}
        """Those who wait for the last byte."""
        self._is_expected = kind not in _UNATTENDED
        """Whether the one who has begun it has still to come and wait."""
        self._is_unattended = kind in _UNATTENDED
        """Whether it goes on when nobody waits."""
        self._is_decided = False
        """Whether it is known if there will be a whole response to keep."""
        self._is_ending = False
        self._ended_at = 0.0
        """When the last byte came, in monotonic seconds; 0 until then."""

    # --- for those who wait ---

    @property
    def is_joinable(self) -> bool:
        """Whether others may wait for it; once the head is there: whether it is being kept, and not too long for it."""
        if self.key is None or self._is_ending or self.error is not None:
            return False
        return self._head is None or self._whole is not None or (self._body is not None and not self._body.is_too_long)

    async def head(self, deadline: float | None = None) -> Head:
        """The head, once it is there; `deadline` is the caller's own, in monotonic seconds.

        Raises DeadlineExceeded, and what the fill has failed with.
        """
        self._is_expected = False
        if self._head is None and self.error is None:
            await self._wait(self._arriving, deadline)
        else:
            self._left()
        if self.error is not None:
            raise copy_of(self.error)
        return self._known_head()

    def join(self, exchange: Exchange | None = None) -> Response:
        """A response with fields of its own, and the body from its first byte. `exchange` is that of the reader.

        Raises what the fill has failed with, and LookupError before the head or when the body is for somebody else.
        """
        if self.error is not None:
            raise copy_of(self.error)
        head, whole = self._known_head(), self._whole
        if whole is not None and head.judged.is_whole:  # the 304 was for us alone
            return Response(whole.status, [*whole.fields], whole.body, reason=whole.reason)
        if whole is not None:
            return _response(head, whole.body)
        if self._body is not None:
            reader = self._body.reader(None if exchange is None else exchange.deadline)
            response = _response(head, reader)
            response.on_close(self._left)
            response.on_close(reader.leave)
            return response
        return self._take_over(head, exchange)

    async def completed(self, deadline: float | None = None) -> StoredResponse | None:
        """The whole response, once the last byte is there; None when it is not stored: `error` tells if it failed.

        Raises DeadlineExceeded for the caller's own deadline (monotonic seconds).
        """
        if not self._is_decided:
            await self._wait(self._completing, deadline)
        return self._whole

    def _known_head(self) -> Head:
        if self._head is None:
            raise LookupError("the head has not come yet")
        return self._head

    async def _wait(self, waiting: dict[asyncio.Future[bool], None], deadline: float | None) -> None:
        fills = self._fills
        waiter: asyncio.Future[bool] = fills.loop.create_future()
        waiting[waiter] = None
        timer = None
        if deadline is not None:
            # The upstream's own limit has the better explanation, if it ends at the same time.
            timer = fills.loop.call_later(max(0.0, deadline + BACKSTOP - fills.clock()), _settle, waiter, False)
        try:
            in_time = await waiter
        finally:
            if timer is not None:
                timer.cancel()
            del waiting[waiter]
            self._left()
        if not in_time:
            raise DeadlineExceeded(LATE)

    def _take_over(self, head: Head, exchange: Exchange | None) -> Response:
        response = self._handed_over
        if response is None:
            raise LookupError("the body is read by somebody else")
        if isinstance(response.body, bytes):
            return _response(head, response.body)
        self._handed_over = None
        response.headers = [*head.headers]
        if exchange is not None:
            self._bind(response, response.body, exchange)
        return response

    def _bind(self, response: Response, body: Body, exchange: Exchange) -> None:
        """The reader's exchange and the fill's are one from here on."""
        own = self.exchange
        if is_event_stream(response.headers):
            exchange.deadline = None
        elif exchange.deadline is not None and (own.deadline is None or exchange.deadline < own.deadline - BACKSTOP):
            response.body = BoundedBody(body, exchange.deadline, self._fills.clock)
        response.on_close(partial(_blame, own, exchange))

    # --- how long it goes on ---

    def _has_arrivals(self) -> bool:
        """Whether anybody may still join who has to find the first byte."""
        return self._is_expected or bool(self._arriving)

    def _left(self) -> None:
        """Somebody waits or reads no more. Who has got the head may still join in this turn of the loop."""
        if self._body is not None:
            self._body.moved()
        if self._whole is None and self.error is None:
            self._fills.loop.call_soon(self._end_if_deserted)

    def _end_if_deserted(self) -> None:
        if self._has_arrivals() or self._completing or (self._body is not None and self._body.is_read):
            return
        handed_over, self._handed_over = self._handed_over, None
        if handed_over is not None:
            self.exchange.error = ClientDisconnected()
            handed_over.close()
        elif self._task is not None and not (self._whole is not None or self._is_ending or self._goes_on_alone()):
            self._is_ending = True
            self._fills.unlist(self)
            self._task.cancel()

    def _goes_on_alone(self) -> bool:
        return self._is_unattended and (self._body is None or not self._body.is_too_long)

    def leave_to_clients(self) -> asyncio.Task[None] | None:
        """Have it end as soon as nobody waits for it or reads from it; the task that is under way."""
        self._is_unattended = False
        self._end_if_deserted()
        return self._task

    def cancel(self) -> asyncio.Task[None] | None:
        """End it, whoever waits; the task that is ending."""
        self._is_ending = True
        if self._task is not None:
            self._task.cancel()
        return self._task

    # --- the task ---

    def begin(self) -> None:
        """Go upstream. The first steps are made at once, where Python can do that."""
        task = _start(self._run(), self._fills.loop)
        self._task = None if task.done() else task

    async def _run(self) -> None:
        outcome: Outcome | None = "failed"
        try:
            outcome = await self._use(await self._handler.handle(self.exchange))
        except asyncio.CancelledError:
            outcome = "cancelled"
            self._fail(InternalError(cause="the fill was cancelled"))
            raise
        except ProxyError as error:
            self._fail(copy_of(error.with_traceback(None)))
        except Exception:
            log.exception("Bug: an unexpected error in a fill on route %s", self.exchange.route.name)
            self._fail(InternalError())
        finally:
            self._finish(outcome)

    async def _use(self, response: Response) -> Outcome | None:
        """Judge the response and keep it. None when it is left to the one who reads it: it is over when that ends."""
        try:
            judged = self._judge(response)
            self._head = Head(response.status, response.reason, response.headers, judged)
            stored = judged.stored
            if stored is None:
                return await self._pass_on(response, "too_large" if judged.refusal == TOO_LARGE else "not_stored")
            if not judged.is_whole:
                body = response.body
                whole = body if isinstance(body, bytes) else await self._collect(body)
                if whole is None:
                    response.close()
                    return "too_large"
                stored.body = whole
        except BaseException as error:
            # A layer below asks at the end of the body whose fault it was.
            self.exchange.error = copy_of(error) if isinstance(error, ProxyError) else ClientDisconnected()
            response.close()
            raise
        response.close()
        return await self._keep(stored, "updated" if judged.is_whole else "stored")

    def _judge(self, response: Response) -> Judged:
        judged = self.keeper.judge(self, response, self._fills.wall())
        if judged.stored is not None and not judged.is_whole:
            refusal = refusal_of(response, self._max_body)
            if refusal:
                return Judged(None, refusal, is_whole=False)
        return judged

    async def _collect(self, source: Body) -> bytes | None:
        """The whole body, to be read by all the while; None when it became too long and was only passed on."""
        fills = self._fills
        self._body = body = SharedBody(self._max_body, fills.loop, fills.clock)
        _wake(self._arriving)
        whole = await body.pump(source)
        if whole is None:
            fills.unlist(self)
            self._decide()
            await body.pass_on(source, self._has_arrivals)
        return whole

    async def _keep(self, stored: StoredResponse, outcome: Outcome) -> Outcome:
        self._ended_at = self._fills.clock()
        self._whole = stored
        self._decide()
        try:
            await self.keeper.keep(self, stored)
        except Exception:
            log.exception("Bug: a response on route %s could not be kept", self.exchange.route.name)
            return "not_stored"
        return outcome

    async def _pass_on(self, response: Response, outcome: Outcome) -> Outcome | None:
        """Nothing is kept. What failed is for all who wait, anything else for the first to join, as it comes."""
        fills, body = self._fills, response.body
        fills.unlist(self)
        if not isinstance(body, bytes) and response.status >= FIRST_FAILURE_STATUS and len(self._arriving) > 1:
            self._body = shared = SharedBody(-1, fills.loop, fills.clock)
            self._decide()
            await shared.pass_on(body, self._has_arrivals)
            response.close()
            return outcome
        if isinstance(body, bytes):
            self._handed_over = response
            response.close()
            self._decide()
            return outcome
        response.on_close(partial(self._end, outcome))
        if self._has_arrivals():
            self._handed_over = response
        else:
            response.close()
        self._decide()
        return None

    def _fail(self, error: ProxyError) -> None:
        if self._whole is None:
            self.error = error
            if self._body is not None:
                self._body.end(error)
            self._decide()

    def _decide(self) -> None:
        self._is_decided = True
        _wake(self._arriving)
        _wake(self._completing)

    def _finish(self, outcome: Outcome | None) -> None:
        fills, watchdog = self._fills, self.exchange.watchdog
        if watchdog is not None:
            watchdog.close()
        self._task = None
        fills.finished(self)
        if outcome is not None:
            self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        ended_at = self._ended_at or self._fills.clock()
        self.keeper.ended(self, outcome, ended_at - self.exchange.started)

    def __repr__(self) -> str:
        return f"<Fill {self.kind} {self.exchange.request.target!r} head={self._head is not None} {self._body!r}>"


def _response(head: Head, body: bytes | Body) -> Response:
    return Response(head.status, [*head.headers], body, reason=head.reason)


def _settle(waiter: asyncio.Future[bool], in_time: bool) -> None:
    if not waiter.done():
        waiter.set_result(in_time)


def _wake(waiting: Iterable[asyncio.Future[bool]]) -> None:
    for waiter in waiting:
        _settle(waiter, True)


def _blame(own: Exchange, reader: Exchange) -> None:
    """What ended the reader's exchange has ended the fill's."""
    own.error = own.error or reader.error


def _start(run: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    """A task for `run`, which has its first steps behind it where Python can do that: it saves a turn of the loop."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(run, loop=loop, eager_start=True)
    return loop.create_task(run)
