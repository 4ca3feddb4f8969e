"""The tables: medians, ratios to Envoy round by round, the machine; printed and written into docs/performance.md."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.compare import Results
from bench.load import Sample
from bench.scenarios import SCENARIOS
from bench.startup import Start
from bench.targets import Target

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"
OWN = "tidegate"
NO_LANE = "tidegate-no-lane"
REFERENCE = "envoy"
MIB = 2**20


def render(results: Results, targets: Sequence[Target], missing: dict[str, str]) -> str:
    """The whole generated part, in Markdown."""
    scenarios = dict.fromkeys(sample.scenario for sample in results.samples)
    parts = (
        _conditions(results, targets, missing),
        goal_table(results),
        *(f"### `{name}`: {SCENARIOS[name].about}\n\n{scenario_table(results.samples, name)}" for name in scenarios),
        f"### Start and memory\n\n{start_table(results.starts, results.loaded_rss)}",
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def goal_table(results: Results) -> str:
    """What was promised of Tidegate and what this run says of it; empty without Tidegate."""
    own = next((start for start in results.starts if start.target == OWN), None)
    if own is None:
        return ""
    rows = [
        row
        for target in (OWN, NO_LANE)
        for row in (
            _ratio_goal(
                f"`{target}`, `get`: CPU per request / Envoy's", cpu_ratios(results.samples, "get", target), 0.8
            ),
            _ratio_goal(
                f"`{target}`, `limited`: CPU per refusal / per `get`", refusal_ratios(results.samples, target), 0.25
            ),
            _ratio_goal(f"`{target}`, `hit`: CPU per hit / nginx's", hit_ratios(results.samples, target), 1.5),
        )
        if row
    ]
    rows += [
        _goal("first proxied 200 after exec, ms", own.data_seconds * 1000, 500),
        _goal("idle RSS, MiB", own.idle_rss / MIB, 70),
    ]
    return table(("goal", "at most", "measured", ""), rows)


def scenario_table(samples: Sequence[Sample], scenario: str) -> str:
    """One row per target: medians over its rounds, and its ratio to Envoy's CPU time in the same rounds."""
    names = dict.fromkeys(sample.target for sample in samples if sample.scenario == scenario)
    rows = [
        (
            name,
            f"{median(sample.cpu_us for sample in rounds):.1f}",
            _spread(cpu_ratios(samples, scenario, name)),
            f"{median(sample.throughput for sample in rounds):.0f}",
            f"{median(sample.p50_ms for sample in rounds):.2f}",
            f"{median(sample.p99_ms for sample in rounds):.2f}",
        )
        for name in names
        for rounds in [_rounds(samples, scenario, name)]
    ]
    return table(("target", "CPU µs/request", "/ Envoy (min to max)", "requests/s", "p50 ms", "p99 ms"), rows)


def cpu_ratios(samples: Sequence[Sample], scenario: str, target: str) -> list[float]:
    """CPU per request against Envoy's in the same round, one per round; empty without Envoy."""
    peer = _rounds(samples, scenario, REFERENCE)
    own = _rounds(samples, scenario, target)
    return [mine.cpu_us / its.cpu_us for mine, its in zip(own, peer, strict=False)]


def refusal_ratios(samples: Sequence[Sample], target: str) -> list[float]:
    """CPU per refusal against the target's own CPU per proxied request, round by round."""
    refused, proxied = _rounds(samples, "limited", target), _rounds(samples, "get", target)
    return [one.cpu_us / other.cpu_us for one, other in zip(refused, proxied, strict=False)]


def hit_ratios(samples: Sequence[Sample], target: str) -> list[float]:
    """CPU per hit against that of nginx's proxy_cache, round by round; empty without nginx."""
    own, peer = _rounds(samples, "hit", target), _rounds(samples, "hit", "nginx")
    return [mine.cpu_us / its.cpu_us for mine, its in zip(own, peer, strict=False)]


def start_table(starts: Sequence[Start], loaded_rss: dict[str, int]) -> str:
    """One row per target: time to readiness and memory."""
    rows = [
        (
            start.target,
            f"{start.data_seconds * 1000:.0f}",
            "" if start.admin_seconds is None else f"{start.admin_seconds * 1000:.0f}",
            f"{start.idle_rss / MIB:.1f}",
            f"{loaded_rss[start.target] / MIB:.1f}" if start.target in loaded_rss else "",
        )
        for start in starts
    ]
    return table(("target", "first proxied 200, ms", "`/readyz`, ms", "idle RSS, MiB", "RSS after load, MiB"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, first column to the left, the rest to the right, readable as it stands."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_row(cells, widths) for cells in (head, rule, *rows))


def write(text: str, document: Path = DOCUMENT) -> None:
    """Put `text` between the markers of `document`. Raises ValueError if it has none."""
    old = document.read_text()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no {BEGIN} ... {END}")
    document.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


def _conditions(results: Results, targets: Sequence[Target], missing: dict[str, str]) -> str:
    effort = results.effort
    lines = [
        f"- Machine: {cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; {_placement()}.",
        f"- Versions: {', '.join(f'{target.name} ({target.version})' for target in targets)}; "
        f"Python {platform.python_version()}; origin: {results.origin}.",
        f"- Effort: {effort.rounds} interleaved rounds of {effort.seconds} s, {effort.starts} starts.",
    ]
    lines += [f"- Not measured: {name} is not installed ({remedy})." for name, remedy in missing.items()]
    return "\n".join(lines)


def _placement() -> str:
    if len(os.sched_getaffinity(0)) > 1:
        return "the proxy on one core, wrk and the origin on another"
    return "not pinned: only one core to use"


def cpu_model() -> str:
    """The processor, as /proc/cpuinfo names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _rounds(samples: Sequence[Sample], scenario: str, target: str) -> list[Sample]:
    return [sample for sample in samples if (sample.scenario, sample.target) == (scenario, target)]


def _spread(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""


def _goal(text: str, measured: float, limit: float) -> tuple[str, ...]:
    return text, f"{limit:g}", f"{measured:.3g}", "reached" if measured <= limit else "missed"


def _ratio_goal(text: str, ratios: Sequence[float], limit: float) -> tuple[str, ...]:
    return _goal(text, median(ratios), limit) if ratios else ()


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return f"| {' | '.join((cells[0].ljust(widths[0]), *numbers))} |"
