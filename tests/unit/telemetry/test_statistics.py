"""Percentiles by nearest rank, as the admin listener shows them."""

import random

from proxy.telemetry.statistics import RouteStatistics, summarize


def test_route_without_requests_has_zeros() -> None:
    assert summarize({"2xx": 0}, []) == RouteStatistics(0, 0, 0)


def test_one_request_is_every_percentile() -> None:
    statistics = summarize({"2xx": 1}, [0.25])

    assert (statistics.min, statistics.max, statistics.avg) == (0.25, 0.25, 0.25)
    assert (statistics.p50, statistics.p95, statistics.p99) == (0.25, 0.25, 0.25)


def test_percentiles_of_one_to_a_hundred_are_their_own_names() -> None:
    durations = [float(number) for number in range(1, 101)]
    random.Random(7).shuffle(durations)

    statistics = summarize({"2xx": 100}, durations)

    assert (statistics.p50, statistics.p95, statistics.p99) == (50.0, 95.0, 99.0)
    assert (statistics.min, statistics.max, statistics.avg) == (1.0, 100.0, 50.5)


def test_failed_counts_server_errors_exact_or_folded() -> None:
    statistics = summarize({"2xx": 5, "4xx": 3, "429": 2, "499": 2, "5xx": 1, "503": 4}, [])

    assert (statistics.total, statistics.failed) == (17, 5)
