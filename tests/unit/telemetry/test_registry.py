"""Instruments by name, and what a scrape reads from them."""

import random
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import ConnectionRefused, NotFound
from proxy.exchange import Response
from proxy.policies.observe import Observe
from proxy.telemetry.access_log import NoAccessLog
from proxy.telemetry.build import build_info
from proxy.telemetry.metrics import FAMILIES, UNMATCHED
from proxy.telemetry.registry import Metrics
from tests.support.clock import ManualClock
from tests.support.exchange import ScriptedHandler, make_exchange


@dataclass
class Endpoint:
    endpoint: str
    state: str
    idle: int = 0
    busy: int = 0
    connecting: int = 0
    waiting: int = 0


@dataclass
class Upstream:
    endpoints: list[Endpoint]

    def snapshot(self) -> list[Endpoint]:
        return self.endpoints


def scrape(metrics: Metrics) -> list[Metric]:
    return list(text_string_to_metric_families(metrics.expose()[0].decode()))


def series(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))) for metric in scrape(metrics) for sample in metric.samples
    }


def values(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for metric in scrape(metrics)
        for sample in metric.samples
        if sample.name == name
    }


def test_scrape_holds_every_declared_family_and_the_process() -> None:
    names = {metric.name for metric in scrape(Metrics(build_info()))}

    assert {family.name.removesuffix("_total") for family in FAMILIES} <= names
    assert {"process_cpu_seconds", "python_gc_collections"} <= names


def test_every_family_has_a_name_in_base_units() -> None:
    for family in FAMILIES:
        assert family.name.startswith("proxy_")
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert (family.kind == "histogram") <= family.name.endswith("_seconds")


def test_instruments_are_made_once_for_each_name() -> None:
    metrics = Metrics(build_info())

    assert metrics.route("search") is metrics.route("search")
    assert metrics.route("search") is not metrics.route("login")
    assert metrics.upstream("api") is metrics.upstream("api")


def test_histogram_counts_are_cumulative() -> None:
    metrics = Metrics(build_info())
    for seconds in (0.003, 0.004, 0.3, 99.0):
        metrics.route("search").duration.observe(seconds)

    buckets = values(metrics, "proxy_request_duration_seconds_bucket")

    assert buckets["search", "0.0025"] == 0
    assert buckets["search", "0.005"] == 2
    assert buckets["search", "0.5"] == 3
    assert buckets["search", "+Inf"] == 4
    assert values(metrics, "proxy_request_duration_seconds_count") == {("search",): 4}


def test_pool_gauges_follow_the_upstreams_in_force() -> None:
    metrics = Metrics(build_info())
    one = Endpoint("http://a:80", "healthy", idle=3, busy=2, connecting=1, waiting=5)
    two = Endpoint("http://b:80", "ejected", waiting=2)
    metrics.pools = {"api": Upstream([one, two])}

    assert values(metrics, "proxy_upstream_connections")["api", "http://a:80", "busy"] == 2
    assert values(metrics, "proxy_upstream_pool_waiting") == {("api",): 7}
    assert values(metrics, "proxy_endpoint_healthy") == {("api", "http://a:80"): 1, ("api", "http://b:80"): 0}

    metrics.pools = {}

    assert values(metrics, "proxy_upstream_connections") == {}


def test_lines_dropped_by_all_access_logs_are_added_up() -> None:
    @dataclass
    class Log:
        dropped: int

    metrics = Metrics(build_info())
    metrics.watch_access_log(Log(3))
    metrics.watch_access_log(Log(4))

    assert values(metrics, "proxy_access_log_dropped_total") == {(): 7}


def test_largest_loop_lag_of_the_last_minute_is_shown() -> None:
    metrics = Metrics(build_info())
    for lag in (0.5, *[0.001] * 599):
        metrics.server.lagged(lag)

    assert values(metrics, "proxy_loop_lag_max_seconds") == {(): 0.5}

    metrics.server.lagged(0.002)

    assert values(metrics, "proxy_loop_lag_max_seconds") == {(): 0.002}


async def test_clients_cannot_add_series() -> None:
    metrics, rng = Metrics(build_info()), random.Random(6)
    layer = Observe(
        ScriptedHandler(lambda _: respond(rng.randrange(100, 1000))),
        metrics.route(UNMATCHED),
        NoAccessLog(),
        slow=None,
        clock=ManualClock(),
    )

    async def respond(status: int) -> Response:
        return Response(status, [])

    async def request() -> None:
        text = "".join(rng.choices('abc/%"\n\\é', k=12))
        exchange = make_exchange(f"M{rng.random()}", f"/{text}", {"Host": text, "User-Agent": text})
        exchange.client_ip = f"10.0.0.{rng.randrange(256)}"
        exchange.error = rng.choice([None, NotFound(), ConnectionRefused()])
        (await layer.handle(exchange)).close()

    for _ in range(20):
        await request()
    before = series(metrics)
    for _ in range(3000):
        await request()

    assert series(metrics) == before
    assert len(before) <= 2000
    assert sum(values(metrics, "proxy_requests_total").values()) == 3020
