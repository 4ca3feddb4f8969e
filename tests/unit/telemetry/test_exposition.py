"""Our text is what prometheus_client would have written of the same registry."""

from collections.abc import Iterator

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from proxy.telemetry.exposition import labels, render


class Collector:
    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def registry_of(*metrics: Metric) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Collector(*metrics))
    return registry


def parsed(text: bytes) -> list[Metric]:
    return list(text_string_to_metric_families(text.decode()))


def counter(value: float) -> Metric:
    metric = CounterMetricFamily("proxy_requests", "Requests.", labels=["route"])
    metric.add_metric(["search"], value)
    return metric


def histogram() -> Metric:
    metric = HistogramMetricFamily("proxy_seconds", "Durations.", labels=["route"])
    metric.add_metric(["search"], [("0.1", 1), ("+Inf", 3)], 4.5)
    return metric


@pytest.mark.parametrize(
    "metric",
    [
        counter(0),
        counter(2**53),
        GaugeMetricFamily("proxy_lag_seconds", "Lag.", value=0.25),
        GaugeMetricFamily("proxy_time", "Big.", value=1.8e9),
        GaugeMetricFamily("proxy_tiny", "Small.", value=1e-9),
        histogram(),
        Metric("proxy_odd", 'a "quoted" \\ text\nof two lines', "gauge"),
    ],
    ids=lambda metric: metric.name,
)
def test_text_reads_like_that_of_prometheus_client(metric: Metric) -> None:
    registry = registry_of(metric)

    text = render(registry)

    assert text
    assert parsed(text) == parsed(generate_latest(registry))


def test_label_values_are_escaped() -> None:
    metric = Metric("proxy_gauge", "", "gauge")
    value = 'back\\slash "quote"\nline'
    metric.add_sample("proxy_gauge", labels(("route",), (value,)), 1)

    (read,) = parsed(render(registry_of(metric)))

    assert read.samples[0].labels == {"route": value}


def test_foreign_collectors_are_rendered_too() -> None:
    registry = CollectorRegistry()
    GCCollector(registry=registry)

    names = {metric.name for metric in parsed(render(registry))}

    assert "python_gc_collections" in names
