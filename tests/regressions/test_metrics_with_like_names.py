"""A counter and a gauge whose names differ by `_total` alone stay two metrics when those of workers are added up."""

from collections import Counter

from proxy.telemetry.build import build_info
from proxy.telemetry.merge import Values, absorb, render_merged, values_of
from proxy.telemetry.registry import Metrics

COUNTER = 'proxy_upstream_connections_total{upstream="api",event="opened"}'
GAUGE = 'proxy_upstream_connections{upstream="api",endpoint="http://a",state="idle"}'


class Endpoint:
    endpoint, state = "http://a", "healthy"
    idle, busy, connecting, waiting = 2, 0, 0, 0


class Pool:
    def snapshot(self) -> list[Endpoint]:
        return [Endpoint()]


def of_worker(opened: int) -> Values:
    metrics = Metrics(build_info())
    for _ in range(opened):
        metrics.upstream("api").connection("opened")
    metrics.pools = {"api": Pool()}
    return values_of(metrics.collect())


def rendered(*parts: Values) -> list[tuple[str, float]]:
    lines = render_merged(Metrics(build_info()).with_process(), parts).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return [(series, float(value)) for series, value in pairs]


def test_both_are_sums_and_no_series_is_there_twice() -> None:
    series = rendered(of_worker(3), of_worker(4))

    assert dict(series)[COUNTER] == 7
    assert dict(series)[GAUGE] == 4
    assert max(Counter(name for name, _ in series).values()) == 1


def test_ended_worker_leaves_its_counter_and_not_its_gauge() -> None:
    past: Values = {}
    absorb(past, of_worker(3))

    series = dict(rendered(past))

    assert series[COUNTER] == 3
    assert GAUGE not in series
