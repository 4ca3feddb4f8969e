"""Metrics of several processes as those of one."""

import os
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry.build import build_info
from proxy.telemetry.merge import Values, absorb, apply, changes, process_values, render_merged, values_of
from proxy.telemetry.metrics import FAMILIES
from proxy.telemetry.registry import Metrics

TABLES = st.dictionaries(
    st.sampled_from("abc"), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3), max_size=3), max_size=3
)


def process(fill: Callable[[Metrics], None] = lambda _: None) -> Metrics:
    metrics = Metrics(build_info())
    fill(metrics)
    return metrics


def told(fill: Callable[[Metrics], None]) -> Values:
    return values_of(process(fill).collect())


def merged(own: Metrics, *others: Values) -> dict[str, float]:
    """Values by name and labels, of the text that is exposed."""
    text = render_merged(own.with_process(), others).decode()
    families = text_string_to_metric_families(text)
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def busy(requests: int, seconds: float, in_flight: int) -> Callable[[Metrics], None]:
    def fill(metrics: Metrics) -> None:
        route = metrics.route("a")
        route.statuses["2xx"] = requests
        route.in_flight = in_flight
        for _ in range(requests):
            route.duration.observe(seconds)

    return fill


def test_counters_gauges_and_histograms_are_added_up() -> None:
    values = merged(process(), told(busy(3, 0.002, 1)), told(busy(4, 0.2, 2)))

    assert values["proxy_requests_total a 2xx"] == 7
    assert values["proxy_requests_in_flight a"] == 3
    assert values["proxy_request_duration_seconds_bucket a 0.0025"] == 3
    assert values["proxy_request_duration_seconds_bucket a +Inf"] == 7
    assert values["proxy_request_duration_seconds_count a"] == 7


def test_what_only_the_whole_has_is_not_added_up() -> None:
    def loaded(metrics: Metrics) -> None:
        metrics.server.loaded("abc", 12.0)
        metrics.server.ready = True
        metrics.server.reloads["success"] = 5

    own = process(loaded)
    values = merged(own, told(loaded), told(loaded))

    assert values["proxy_config_info abc"] == 1
    assert values["proxy_config_last_reload_success_timestamp_seconds"] == 12.0
    assert values["proxy_config_reloads_total success"] == 5
    assert values["proxy_ready"] == 1
    assert sum(value for name, value in values.items() if name.startswith("proxy_build_info")) == 1


def test_worst_case_of_all_processes_is_shown_where_a_sum_means_nothing() -> None:
    def lagging(metrics: Metrics) -> None:
        metrics.server.lagged(0.4)

    assert merged(process(), told(lagging), told(lambda _: None))["proxy_loop_lag_max_seconds"] == 0.4
    out_of_service = {"proxy_endpoint_healthy": {'proxy_endpoint_healthy{upstream="u",endpoint="e"}': 0.0}}
    in_service = {"proxy_endpoint_healthy": {'proxy_endpoint_healthy{upstream="u",endpoint="e"}': 1.0}}
    assert merged(process(), in_service, out_of_service)["proxy_endpoint_healthy u e"] == 0


def test_every_family_keeps_its_kind_and_its_help() -> None:
    text = render_merged(process().with_process(), [told(busy(1, 0.1, 0))]).decode()

    for family in FAMILIES:
        assert f"# TYPE {family.name} {family.kind}\n" in text
        assert f"# HELP {family.name} {family.help}\n" in text


def test_process_that_has_ended_leaves_its_counters_and_takes_its_gauges_along() -> None:
    past: Values = {}
    absorb(past, told(busy(3, 0.002, 1)))
    absorb(past, told(busy(2, 0.002, 5)))
    values = merged(process(), past, told(busy(4, 0.002, 2)))

    assert values["proxy_requests_total a 2xx"] == 9
    assert values["proxy_request_duration_seconds_count a"] == 9
    assert values["proxy_requests_in_flight a"] == 2


@given(TABLES, TABLES)
def test_changes_bring_the_old_values_up_to_date(before: Values, now: Values) -> None:
    values = {family: dict(series) for family, series in before.items()}
    apply(values, changes(before, now))

    known = {family: series for family, series in values.items() if family in now}
    assert {family: series for family, series in known.items() if series} == {f: s for f, s in now.items() if s}


def test_nothing_is_told_when_nothing_has_changed() -> None:
    now = told(busy(3, 0.002, 1))

    assert changes(now, told(busy(3, 0.002, 1))) == {}
    (changed,) = changes(now, told(busy(3, 0.002, 2))).values()
    assert changed == {'proxy_requests_in_flight{route="a"}': 2}


def test_cpu_and_memory_of_another_process_are_added() -> None:
    alone = merged(process())
    with_another = merged(process(), process_values(os.getppid()))

    for name in ("process_resident_memory_bytes", "process_open_fds"):
        assert with_another[name] > alone[name]
    assert with_another["process_start_time_seconds"] == alone["process_start_time_seconds"]


def test_process_that_is_gone_has_no_values() -> None:
    assert process_values(2**22 + 1) == {}
