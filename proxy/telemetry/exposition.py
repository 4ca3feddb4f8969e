"""The Prometheus text format, about five times faster than prometheus_client's own writer.

That one takes 5 microseconds a sample, all of it on the event loop: with some hundred routes every scrape would be
felt by the requests beside it. The text of a series' labels never changes, so here it is made once.
"""

from collections.abc import Mapping, Sequence
from functools import cache

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry
from prometheus_client.samples import Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Labels(dict[str, str]):
    """Label names and values of one series, with their text."""

    __slots__ = ("text",)

    def __init__(self, names: Sequence[str], values: Sequence[str]) -> None:
        super().__init__(zip(names, values, strict=True))
        self.text = _label_text(self)


@cache
def labels(names: tuple[str, ...], values: tuple[str, ...]) -> Labels:
    """The one Labels of a series. As many are kept as there are series: label values are bounded by design."""
    return Labels(names, values)


def render(registry: CollectorRegistry) -> bytes:
    """All counters, gauges and histograms of the registry; it holds no other kinds."""
    lines: list[str] = []
    for metric in registry.collect():
        lines.append(head_of(metric))
        lines += [f"{series_of(sample)} {sample.value}\n" for sample in metric.samples]
    return "".join(lines).encode()


def head_of(metric: Metric) -> str:
    """The lines before the series of a family."""
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return f"# HELP {name} {_escape_help(metric.documentation)}\n# TYPE {name} {metric.type}\n"


def series_of(sample: Sample) -> str:
    """Name and labels of a series as they are written."""
    series = sample.labels
    return sample.name + (series.text if type(series) is Labels else _label_text(series))


def _label_text(series: Mapping[str, str]) -> str:
    if not series:
        return ""
    return "{" + ",".join(f'{name}="{_escape_value(value)}"' for name, value in series.items()) + "}"


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_value(text: str) -> str:
    return _escape_help(text).replace('"', r"\"")
