"""All instruments of the process, and the prometheus_client collector that reads them at each scrape."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from time import monotonic
from typing import Protocol

from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry
from prometheus_client.samples import Sample

from proxy.telemetry import metrics as declared
from proxy.telemetry.cache_instruments import CacheStoreMetrics, RouteCacheMetrics
from proxy.telemetry.cache_metrics import cache_rows
from proxy.telemetry.exposition import CONTENT_TYPE, labels, render
from proxy.telemetry.instruments import Histogram, RedisMetrics, RouteMetrics, ServerMetrics, UpstreamMetrics
from proxy.telemetry.metrics import Family
from proxy.telemetry.state_metrics import NoStates, States, state_rows

_BOUNDS = (*(str(bound) for bound in declared.SECONDS_BUCKETS), "+Inf")

Row = tuple[tuple[str, ...], float]
"""Label values of one series, and its value."""


class EndpointState(Protocol):
    """Live state of one endpoint's connections."""

    @property
    def endpoint(self) -> str:
        """Its address, as configured."""
        ...

    @property
    def state(self) -> str:
        """`healthy` while it is in service."""
        ...

    @property
    def idle(self) -> int:
        """Open connections without a request."""
        ...

    @property
    def busy(self) -> int:
        """Open connections with a request."""
        ...

    @property
    def connecting(self) -> int:
        """Connections that are being opened."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        ...


class Pool(Protocol):
    """An upstream whose connections can be looked at."""

    def snapshot(self) -> Sequence[EndpointState]:
        """One entry for each endpoint."""
        ...


class DropCounter(Protocol):
    """Something that loses lines rather than wait."""

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        ...


class Metrics:
    """The instruments by name. They outlive a reload, and a route that it removed: no counter ever goes backwards."""

    def __init__(self, build: Mapping[str, str]) -> None:
        self.server = ServerMetrics()
        self.pools: Mapping[str, Pool] = {}
        """The upstreams in force by name; each reload replaces the mapping."""
        self.workers: Mapping[str, int] = {}
        """Where there are several: how many are in each state."""
        self.worker_restarts: dict[str, int] = {}
        """By reason."""
        self._build = build
        self._routes: dict[str, RouteMetrics] = {}
        self._upstreams: dict[str, UpstreamMetrics] = {}
        self.states: States = NoStates()
        """What the policies remember."""
        self.has_redis = True
        """Whether the configuration in force has one."""
        self._redis: RedisMetrics | None = None
        self._bulkhead_waits: dict[str, Histogram] = {}
        self._caches: dict[str, RouteCacheMetrics] = {}
        self.cache_store = CacheStoreMetrics()
        self._logs: list[DropCounter] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def route(self, name: str) -> RouteMetrics:
        """The route's instruments, made on first use."""
        return self._routes.get(name) or self._routes.setdefault(name, RouteMetrics(name))

    def upstream(self, name: str) -> UpstreamMetrics:
        """The upstream's instruments, made on first use."""
        return self._upstreams.get(name) or self._upstreams.setdefault(name, UpstreamMetrics(name))

    def redis(self) -> RedisMetrics:
        """The instruments of Redis, made on first use."""
        if self._redis is None:
            self._redis = RedisMetrics()
        return self._redis

    def bulkhead_waits(self, name: str) -> Histogram:
        """How long exchanges waited for a permit of that bulkhead; made on first use."""
        return self._bulkhead_waits.get(name) or self._bulkhead_waits.setdefault(name, Histogram())

    def cache(self, route: str) -> RouteCacheMetrics:
        """The instruments of a route's cache, made on first use."""
        return self._caches.get(route) or self._caches.setdefault(route, RouteCacheMetrics(route))

    def watch_access_log(self, log: DropCounter) -> None:
        """Count the lines that this log drops, too."""
        self._logs.append(log)

    def expose(self) -> tuple[bytes, str]:
        """All metrics in the Prometheus text format, and its content type."""
        return render(self._registry), CONTENT_TYPE

    def with_process(self) -> Iterable[Metric]:
        """Every family, those of the process and of Python included."""
        return self._registry.collect()

    def collect(self) -> Iterator[Metric]:
        """Every family of `metrics.py` with its present values; called by the registry."""
        yield from self._collect_routes()
        yield from self._collect_policies()
        yield from self._collect_cache()
        yield from self._collect_redis()
        yield from self._collect_upstreams()
        yield from self._collect_pools()
        yield from self._collect_server()

    def _collect_routes(self) -> Iterator[Metric]:
        routes = self._routes.values()
        yield _metric(declared.REQUESTS, [((r.name, s), n) for r in routes for s, n in r.statuses.items()])
        yield _histogram(declared.REQUEST_DURATION, [((r.name,), r.duration) for r in routes])
        yield _metric(declared.REQUESTS_IN_FLIGHT, [((r.name,), r.in_flight) for r in routes])
        yield _metric(declared.REQUEST_BYTES, [((r.name,), r.request_bytes) for r in routes])
        yield _metric(declared.RESPONSE_BYTES, [((r.name,), r.response_bytes) for r in routes])
        yield _metric(declared.SLOW_REQUESTS, [((r.name,), r.slow) for r in routes])
        yield _metric(declared.ERRORS, [((r.name, *e), n) for r in routes for e, n in r.errors.items()])
        yield _metric(declared.TIMEOUTS, [((r.name, kind), n) for r in routes for kind, n in r.timeouts.items()])
        rows = [
            ((r.name, policy, mode, decision), n) for r in routes for (policy, mode, decision), n in r.decisions.items()
        ]
        yield _metric(declared.POLICY_DECISIONS, rows)

    def _collect_policies(self) -> Iterator[Metric]:
        routes = self._routes.values()
        yield _metric(declared.RETRIES, [((r.name, cause), n) for r in routes for cause, n in r.retries.items()])
        yield _metric(declared.FALLBACKS, [((r.name, step), n) for r in routes for step, n in r.fallbacks.items()])
        for family, rows in state_rows(self.states, monotonic()):
            yield _metric(family, rows)
        yield _histogram(declared.BULKHEAD_WAIT, [((name,), waits) for name, waits in self._bulkhead_waits.items()])

    def _collect_cache(self) -> Iterator[Metric]:
        for family, rows in cache_rows(self._caches.values(), self.cache_store, self.states):
            yield _metric(family, rows)
        durations = [((each.name,), each.fill_duration) for each in self._caches.values()]
        yield _histogram(declared.CACHE_FILL_DURATION, durations)

    def _collect_redis(self) -> Iterator[Metric]:
        redis = [] if self._redis is None or not self.has_redis else [self._redis]
        yield _metric(declared.REDIS_COMMANDS, [(values, n) for each in redis for values, n in each.commands.items()])
        yield _histogram(declared.REDIS_DURATION, [((), each.duration) for each in redis])
        yield _metric(declared.REDIS_UP, [((), int(each.up)) for each in redis])
        yield _metric(declared.REDIS_INSTANCES, [((), each.instances) for each in redis])

    def _collect_upstreams(self) -> Iterator[Metric]:
        upstreams = self._upstreams.values()
        yield _metric(declared.ATTEMPTS, [((u.name, o), n) for u in upstreams for o, n in u.attempts.items()])
        yield _histogram(declared.ATTEMPT_DURATION, [((u.name,), u.duration) for u in upstreams])
        rows = [((u.name, event), n) for u in upstreams for event, n in u.connections.items()]
        yield _metric(declared.CONNECTION_EVENTS, rows)
        rows = [((u.name, endpoint), n) for u in upstreams for endpoint, n in u.ejections.items()]
        yield _metric(declared.ENDPOINT_EJECTIONS, rows)

    def _collect_pools(self) -> Iterator[Metric]:
        endpoints = [(name, e) for name, pool in self.pools.items() for e in pool.snapshot()]
        connections: list[Row] = []
        waiting: dict[str, int] = {}
        for name, e in endpoints:
            states = ("idle", e.idle), ("busy", e.busy), ("connecting", e.connecting)
            connections += [((name, e.endpoint, state), count) for state, count in states]
            waiting[name] = waiting.get(name, 0) + e.waiting
        yield _metric(declared.CONNECTIONS, connections)
        yield _metric(declared.POOL_WAITING, [((name,), count) for name, count in waiting.items()])
        healthy = [((name, e.endpoint), int(e.state == "healthy")) for name, e in endpoints]
        yield _metric(declared.ENDPOINT_HEALTHY, healthy)

    def _collect_server(self) -> Iterator[Metric]:
        server = self.server
        yield _single(declared.CLIENT_CONNECTIONS, server.client_connections)
        yield _single(declared.CLIENT_CONNECTION_LIMIT, server.client_connection_limit)
        yield _single(declared.CLIENT_CONNECTIONS_REFUSED, server.client_connections_refused)
        yield _histogram(declared.LOOP_LAG, [((), server.loop_lag)])
        yield _single(declared.LOOP_LAG_MAX, max(server.recent_loop_lags, default=0.0))
        yield _metric(declared.SHED, [((criticality,), n) for criticality, n in server.shed.items()])
        yield _single(declared.SHED_LEVEL, server.shed_level)
        yield _metric(declared.BUILD_INFO, [(tuple(self._build[name] for name in declared.BUILD_INFO.labels), 1)])
        yield _metric(declared.CONFIG_INFO, [((server.config_digest,), 1)])
        yield _metric(declared.CONFIG_RELOADS, [((result,), n) for result, n in server.reloads.items()])
        yield _single(declared.CONFIG_LOADED_AT, server.config_loaded_at)
        yield _single(declared.ACCESS_LOG_DROPPED, sum(log.dropped for log in self._logs))
        yield _single(declared.DRAINING, int(server.draining))
        yield _single(declared.READY, int(server.ready))
        yield _metric(declared.WORKERS, [((state,), n) for state, n in self.workers.items()])
        yield _metric(declared.WORKER_RESTARTS, [((reason,), n) for reason, n in self.worker_restarts.items()])


def _metric(family: Family, rows: Iterable[Row]) -> Metric:
    metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
    metric.samples = [Sample(family.name, labels(family.labels, values), value) for values, value in rows]
    return metric


def _single(family: Family, value: float) -> Metric:
    return _metric(family, [((), value)])


def _histogram(family: Family, rows: Iterable[tuple[tuple[str, ...], Histogram]]) -> Metric:
    metric = Metric(family.name, family.help, family.kind)
    bucket, names = f"{family.name}_bucket", (*family.labels, "le")
    for values, histogram in rows:
        counts = list(accumulate(histogram.counts))
        metric.samples += [
            Sample(bucket, labels(names, (*values, bound)), count) for bound, count in zip(_BOUNDS, counts, strict=True)
        ]
        series = labels(family.labels, values)
        metric.samples += [
            Sample(f"{family.name}_count", series, counts[-1]),
            Sample(f"{family.name}_sum", series, histogram.sum),
        ]
    return metric
