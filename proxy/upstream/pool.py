"""The connections to one endpoint: last in, first out; bounded, with a queue in order of arrival."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final, cast

from proxy.config.model import UpstreamConfig
from proxy.errors import ConnectionLimitReached, ConnectionTerminated, ConnectionTimeout, InternalError, ProxyError
from proxy.outbox import Outbox
from proxy.upstream.connection import Connection
from proxy.upstream.dial import Dialer
from proxy.upstream.observer import UpstreamObserver

_TIMER_SLACK: Final = 0.002
"""Seconds that a timer may fire early."""
REUSE_PAUSE: Final = 10.0
"""Seconds without reuse after an upstream has sent bytes that nobody had asked for."""
_AGE_JITTER: Final = 0.1
"""Connections live up to this share shorter than `max_age`, so that those opened together do not end together."""


class _Waiter:
    """One exchange without a connection. `fresh`: a connection that has served others will not do."""

    __slots__ = ("connection", "deadline", "fresh", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline: float, *, fresh: bool) -> None:
        self.connection: asyncio.Future[Connection] = loop.create_future()
        self.deadline = deadline
        self.fresh = fresh
        self.timer: asyncio.TimerHandle | None = None

    def hand_back(self, pool: "Pool") -> None:
        """The exchange has given up, perhaps just after it got its connection."""
        given = self.connection
        if given.done() and not given.cancelled() and given.exception() is None:
            pool.release(given.result())


class Pool:
    """Lends connections of one endpoint. `random` returns numbers in [0, 1)."""

    def __init__(
        self,
        config: UpstreamConfig,
        dialer: Dialer,
        loop: asyncio.AbstractEventLoop,
        observer: UpstreamObserver,
        random: Callable[[], float],
        outbox: Outbox,
    ) -> None:
        self.outbox = outbox
        self._config = config
        self._dialer = dialer
        self._loop = loop
        self._observer = observer
        self._random = random
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiters: deque[_Waiter] = deque()
        self._dials: set[asyncio.Task[None]] = set()
        self._closed = False
        self._reuse_from = 0.0

    @property
    def idle(self) -> int:
        """Connections that wait for work."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Connections that serve an exchange."""
        return len(self._connections) - len(self._idle)

    @property
    def connecting(self) -> int:
        """Connections being opened."""
        return len(self._dials)

    @property
    def waiting(self) -> int:
        """Exchanges without a connection."""
        return len(self._waiters)

    @property
    def load(self) -> int:
        """Exchanges under way."""
        return len(self._connections) - len(self._idle) + len(self._waiters)

    def take(self, now: float) -> Connection | None:
        """The idle connection used last, if there is one that is still good."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_usable(now):
                self._observer.connection("reused")
                return connection
            connection.abort()
        return None

    async def wait(self, deadline: float, *, fresh: bool = False) -> Connection:
        """A new connection, or the next one that is given back unless it has to be `fresh`; `deadline` is loop time.

        Raises ConnectionLimitReached when none is free within `connect_timeout`, and whatever opening one raises.
        """
        waiter = _Waiter(self._loop, deadline, fresh=fresh)
        self._waiters.append(waiter)
        self._dial_for_waiters()
        limit = self._loop.time() + self._config.connect_timeout
        waiter.timer = self._loop.call_at(min(limit, deadline), self._expire, waiter)
        try:
            return await waiter.connection
        except asyncio.CancelledError:
            waiter.hand_back(self)
            raise
        finally:
            waiter.timer.cancel()
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    async def close(self) -> None:
        """Close what is idle now, and everything else once it has served its exchange."""
        self._closed = True
        while self._idle:
            self._idle[-1].abort()
        if not self._waiters:
            dials = list(self._dials)
            for dial in dials:
                dial.cancel()
            await asyncio.gather(*dials, return_exceptions=True)

    # --- what connections tell ---

    def release(self, connection: Connection) -> None:
        """A connection is free: the first waiter that it suits gets it."""
        if connection.closed:
            return
        if self._reuse_from and connection.served and self._loop.time() < self._reuse_from:
            connection.abort()
            return
        waiter = self._waiter_for(connection) if self._waiters else None
        if waiter is not None:
            self._waiters.remove(waiter)
            waiter.connection.set_result(connection)
        elif self._closed:
            connection.abort()
        else:
            self._idle.append(connection)
            self._dial_for_waiters()

    def spoke_unasked(self) -> None:
        """The upstream sent bytes that answer no request. On a reused connection they would answer the next one.

        Where one response is late, others may be: for a while every request gets a connection of its own.
        """
        self._reuse_from = self._loop.time() + REUSE_PAUSE
        self._observer.connection("surplus")
        while self._idle:
            self._idle[-1].abort()

    def closed(self, connection: Connection) -> None:
        """A connection is gone: its place is free."""
        if connection not in self._connections:
            return  # it was lost before it was ours
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._observer.connection("closed")
        self._dial_for_waiters()

    # --- inside ---

    def _waiter_for(self, connection: Connection) -> _Waiter | None:
        for waiter in self._waiters:
            if not waiter.connection.done() and not (waiter.fresh and connection.served):
                return waiter
        return None

    def _dial_for_waiters(self) -> None:
        """Open one connection for each waiter, as far as the limit allows."""
        while self.connecting < len(self._waiters):
            if len(self._connections) + self.connecting >= self._config.max_connections:
                if self._idle:
                    self._idle[0].abort()  # too old for those who wait; its end leads back here
                return
            dial = self._loop.create_task(self._dial())
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)

    async def _dial(self) -> None:
        error: ProxyError | None = None
        try:
            connection = await self._dialer.dial(self._new_connection)
            if connection.closed:
                error = ConnectionTerminated(cause="closed as soon as it was open", request_written=False)
        except ProxyError as failure:
            error = failure
        except Exception as bug:
            error = InternalError(cause=repr(bug))
        self._dials.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        if error is not None:
            self._observer.connection("failed")
            self._fail_first(error)
            return
        self._observer.connection("opened")
        self._connections.add(connection)
        connection.rest()
        self.release(connection)

    def _new_connection(self) -> Connection:
        age = self._config.max_age * (1 - _AGE_JITTER * self._random())
        return Connection(self, self._loop, idle_timeout=self._config.idle_timeout, expires_at=self._loop.time() + age)

    def _fail_first(self, error: ProxyError) -> None:
        """A connection could not be opened: who waited longest is told, the others have one on the way each."""
        for waiter in self._waiters:
            if not waiter.connection.done():
                self._waiters.remove(waiter)
                waiter.connection.set_exception(error)
                break
        self._dial_for_waiters()

    def _expire(self, waiter: _Waiter) -> None:
        """A waiter's time is over, unless a connection is on the way for it: that has a limit of its own."""
        if waiter.connection.done():
            return
        is_late = self._loop.time() >= waiter.deadline - _TIMER_SLACK
        is_served = self._waiters.index(waiter) < self.connecting
        if is_served and is_late:
            waiter.connection.set_exception(ConnectionTimeout(request_written=False))
        elif not is_served:
            waiter.connection.set_exception(ConnectionLimitReached(request_written=False))
        elif waiter.deadline < inf:
            waiter.timer = self._loop.call_at(waiter.deadline, self._expire, waiter)

    def __repr__(self) -> str:
        return (
            f"<Pool {self._dialer!r} idle={self.idle} busy={self.busy} connecting={self.connecting} "
            f"waiting={self.waiting}>"
        )
