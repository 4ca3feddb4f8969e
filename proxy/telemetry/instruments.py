"""The counters themselves: plain ints that the hot path bumps and a scrape reads. One thread, the event loop's."""

import logging
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING

from proxy.config.policies import CRITICALITIES
from proxy.errors import (
    ConnectionTimeout,
    DeadlineExceeded,
    DnsTimeout,
    ProxyError,
    RequestTimeout,
    Source,
    UpstreamTimeout,
)
from proxy.telemetry.metrics import SECONDS_BUCKETS, STATUS_LABELS, TIMEOUT_KINDS
from proxy.telemetry.statistics import RouteStatistics, summarize

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.telemetry.events import EndpointEvent, ReloadEvent

log = logging.getLogger("tidegate.upstream")

_RECENT_REQUESTS = 1024
_RECENT_LAGS = 600


class Histogram:
    """Counts of values in seconds by bucket; the last count is for those above every bound."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS_BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(SECONDS_BUCKETS, seconds)] += 1
        self.sum += seconds


def timeout_kind(error: Exception | None) -> str | None:
    """Which time limit ended the exchange, one of TIMEOUT_KINDS; None: no time limit did."""
    match error:
        case UpstreamTimeout(kind=kind):
            return kind
        case DeadlineExceeded():
            return "total"
        case ConnectionTimeout() | DnsTimeout():
            return "connect"
        case RequestTimeout():
            return "client"
        case _:
            return None


def error_labels(error: Exception) -> tuple[str, str]:
    """Source and RFC 9209 error type; anything but a ProxyError is a bug of ours."""
    if isinstance(error, ProxyError):
        return error.source.value, error.token
    return Source.PROXY.value, ProxyError.token


class RouteMetrics:
    """What is counted for one route."""

    __slots__ = (
        "decisions",
        "duration",
        "errors",
        "fallbacks",
        "in_flight",
        "name",
        "recent",
        "request_bytes",
        "response_bytes",
        "retries",
        "slow",
        "statuses",
        "timeouts",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = 0
        """Incremented by whoever starts an exchange; `finished` decrements it."""
        self.statuses = dict.fromkeys(sorted(set(STATUS_LABELS.values())), 0)
        self.duration = Histogram()
        self.recent: deque[float] = deque(maxlen=_RECENT_REQUESTS)
        self.request_bytes = 0
        self.response_bytes = 0
        self.slow = 0
        self.errors: dict[tuple[str, str], int] = {}
        self.timeouts = dict.fromkeys(TIMEOUT_KINDS, 0)
        self.decisions: dict[tuple[str, str, str], int] = {}
        self.retries: dict[str, int] = {}
        """By cause."""
        self.fallbacks: dict[str, int] = {}
        """By kind of step."""

    def finished(self, exchange: "Exchange", status: int, seconds: float) -> None:
        """A request has ended, one way or another, `seconds` after its head was complete."""
        self.in_flight -= 1
        # An upstream may send 600 to 999; RFC 9110 section 15 has those treated as 5xx.
        self.statuses[STATUS_LABELS.get(status, "5xx")] += 1
        self.duration.observe(seconds)
        self.recent.append(seconds)
        self.request_bytes += exchange.bytes_in
        self.response_bytes += exchange.bytes_out
        if exchange.error is not None:
            self._count_error(exchange.error)
        if exchange.decisions is not None:
            self._count_decisions(exchange)

    def statistics(self) -> RouteStatistics:
        """Totals since start, and the latency of the last 1024 requests."""
        return summarize(self.statuses, self.recent)

    def _count_error(self, error: Exception) -> None:
        labels = error_labels(error)
        self.errors[labels] = self.errors.get(labels, 0) + 1
        kind = timeout_kind(error)
        if kind is not None:
            self.timeouts[kind] = self.timeouts.get(kind, 0) + 1

    def _count_decisions(self, exchange: "Exchange") -> None:
        for decision in exchange.decisions or ():
            labels = (decision.policy, decision.mode, decision.decision)
            self.decisions[labels] = self.decisions.get(labels, 0) + 1


class UpstreamMetrics:
    """What is counted for one upstream: the UpstreamObserver that its client reports to."""

    __slots__ = ("attempts", "connections", "duration", "ejections", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.attempts: dict[str, int] = {}
        self.duration = Histogram()
        self.connections = {"opened": 0, "reused": 0, "closed": 0, "failed": 0, "surplus": 0}
        self.ejections: dict[str, int] = {}

    def attempt(self, outcome: str, seconds: float) -> None:
        """A call to the upstream has ended; `outcome` is a fixed word of the client."""
        self.attempts[outcome] = self.attempts.get(outcome, 0) + 1
        self.duration.observe(seconds)

    def connection(self, event: str) -> None:
        """A connection was opened, reused, closed, or failed to open."""
        self.connections[event] = self.connections.get(event, 0) + 1
        if event == "surplus":
            log.warning("an upstream sent bytes that nobody asked for", extra={"upstream": self.name})

    def endpoint(self, event: "EndpointEvent") -> None:
        """An endpoint came into or went out of service: worth a line in the log, too."""
        if event.state == "ejected":
            self.ejections[event.endpoint] = self.ejections.get(event.endpoint, 0) + 1
        details = {"upstream": event.upstream, "endpoint": event.endpoint, "reason": event.reason}
        log.warning("endpoint is %s", event.state, extra=details)


class RedisMetrics:
    """What is counted for Redis."""

    __slots__ = ("commands", "duration", "instances", "up")

    def __init__(self) -> None:
        self.commands: dict[tuple[str, str], int] = {}
        """By operation (the script's name) and outcome."""
        self.duration = Histogram()
        self.up = False
        self.instances = 1

    def ended(self, operation: str, outcome: str, seconds: float) -> None:
        """A call has ended, or was not made; `outcome` is `ok`, `cancelled` or that of a StoreError."""
        labels = operation, outcome
        self.commands[labels] = self.commands.get(labels, 0) + 1
        if outcome not in ("unavailable", "no_time"):
            self.duration.observe(seconds)


class ServerMetrics:
    """What is counted for the process; the edge and the composition root set the attributes."""

    __slots__ = (
        "client_connection_limit",
        "client_connections",
        "client_connections_refused",
        "config_digest",
        "config_loaded_at",
        "draining",
        "loop_lag",
        "ready",
        "recent_loop_lags",
        "reloads",
        "shed",
        "shed_level",
    )

    def __init__(self) -> None:
        self.client_connections = 0
        self.client_connection_limit = 0
        self.client_connections_refused = 0
        self.loop_lag = Histogram()
        self.recent_loop_lags: deque[float] = deque(maxlen=_RECENT_LAGS)
        self.shed = dict.fromkeys(CRITICALITIES, 0)
        self.shed_level = 0.0
        self.config_digest = ""
        self.config_loaded_at = 0.0
        self.reloads = {"success": 0, "failure": 0}
        self.draining = False
        self.ready = False

    def loaded(self, digest: str, at: float) -> None:
        """A configuration came into force at the Unix time `at`."""
        self.config_digest = digest
        self.config_loaded_at = at

    def reloaded(self, event: "ReloadEvent") -> None:
        """A changed configuration came into force, or was refused."""
        self.reloads["success" if event.ok else "failure"] += 1
        if event.ok:
            self.loaded(event.digest, event.at)

    def lagged(self, seconds: float) -> None:
        """The event loop ran a timer this much too late."""
        self.loop_lag.observe(seconds)
        self.recent_loop_lags.append(seconds)
