"""Adds up the metrics of several processes, series by series.

A process tells its values as text of the exposition format, `{family: {series: value}}`, and after the first time only
what has changed, so that quiet routes cost nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

from proxy.telemetry import metrics as declared
from proxy.telemetry.exposition import head_of, series_of

Values = dict[str, dict[str, float]]
"""By name of the family (of a counter with `_total`) and by series: its name and labels as they are written."""
Changes = dict[str, dict[str, float | None]]
"""What is new; None: the series is gone."""


def _names(*families: declared.Family) -> frozenset[str]:
    return frozenset(family.name for family in families)


def _name(metric: Metric) -> str:
    """As it is declared: prometheus_client leaves out the `_total`, and a gauge may have the name without it."""
    return f"{metric.name}_total" if metric.type == "counter" else str(metric.name)


_OWN = _names(
    declared.BUILD_INFO,
    declared.CONFIG_INFO,
    declared.CONFIG_RELOADS,
    declared.CONFIG_LOADED_AT,
    declared.DRAINING,
    declared.READY,
    declared.WORKERS,
    declared.WORKER_RESTARTS,
)
"""Of the whole: the supervisor alone knows."""
_LARGEST = _names(
    declared.LOOP_LAG_MAX,
    declared.SHED_LEVEL,
    declared.BREAKER_STATE,
    declared.REDIS_INSTANCES,
    declared.CACHE_GAP,
)
_SMALLEST = _names(declared.ENDPOINT_HEALTHY, declared.REDIS_UP, declared.CACHE_HIT_RATIO)
_CPU = "process_cpu_seconds_total"
_OF_PROCESSES = (_CPU, "process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds")
"""Families of prometheus_client that are the same for each process and can be added up."""
_LASTING = _names(*(family for family in declared.FAMILIES if family.kind != "gauge")) | {_CPU}
"""What a process leaves behind when it ends."""


def values_of(metrics: Iterable[Metric]) -> Values:
    """The present values of a process."""
    return {_name(metric): {series_of(sample): sample.value for sample in metric.samples} for metric in metrics}


def process_values(pid: int) -> Values:
    """CPU time, memory and file descriptors of another process; nothing where it cannot be looked at."""
    metrics = ProcessCollector(pid=lambda: pid, registry=None).collect()
    return values_of(metric for metric in metrics if _name(metric) in _OF_PROCESSES)


def changes(before: Values, now: Values) -> Changes:
    """What `apply` needs to make `now` of `before`."""
    found: Changes = {}
    for family, series in now.items():
        old = before.get(family, {})
        changed: dict[str, float | None] = {name: value for name, value in series.items() if old.get(name) != value}
        if len(old) + len(changed) > len(series):
            changed.update(dict.fromkeys(old.keys() - series.keys()))
        if changed:
            found[family] = changed
    return found


def apply(values: Values, found: Changes) -> None:
    """Bring `values` up to date."""
    for family, series in found.items():
        target = values.setdefault(family, {})
        for name, value in series.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = value


def absorb(past: Values, ended: Values) -> None:
    """A process has ended: what it counted goes into `past`, so that no sum goes backwards; its gauges are gone."""
    for family in ended.keys() & _LASTING:
        target = past.setdefault(family, {})
        for name, value in ended[family].items():
            target[name] = target.get(name, 0) + value


def render_merged(own: Iterable[Metric], others: Sequence[Values]) -> bytes:
    """The text of `own`, the metrics of this process, put together with the values of the others."""
    lines: list[str] = []
    for metric in own:
        ((name, mine),) = values_of([metric]).items()
        parts = [mine] if name in _OWN else [mine, *(other.get(name, {}) for other in others)]
        lines.append(head_of(metric))
        lines += [f"{series} {value}\n" for series, value in _combined(parts, _rule(name)).items()]
    return "".join(lines).encode()


def _rule(family: str) -> Callable[[float, float], float]:
    if family in _LARGEST:
        return max
    return min if family in _SMALLEST else _sum


def _sum(one: float, other: float) -> float:
    return one + other


def _combined(parts: Sequence[Mapping[str, float]], rule: Callable[[float, float], float]) -> dict[str, float]:
    result: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            result[name] = rule(result[name], value) if name in result else value
    return result
