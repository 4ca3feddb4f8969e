"""Tables and plots of the overload experiment, for docs/overload.md."""

import os
import platform
from collections.abc import Sequence

from bench import report
from bench.overload_figures import Run, p99, percentile, refused, served
from bench.overload_load import Answer
from bench.overload_plot import plot
from bench.overload_upstream import CAPACITY, SERVICE, SLOTS
from bench.report import table

DOCUMENT = report.DOCUMENT.with_name("overload.md")
PLOT = DOCUMENT.with_suffix(".svg")
OWN = "tidegate"
QUEUE_WAIT = 0.1
"""Seconds: `queue_timeout` in bench/overload.yaml."""
COLUMNS = (
    "target",
    "offered",
    "goodput",
    "p50 ms",
    "p99 ms",
    "refused",
    "refusal p99 ms",
    "no answer",
    "hits/request",
    "wasted",
    "breaker",
    "recovered, s",
)
FAILING = {"/fail/1": "retry and breaker", "/fail-alone/1": "retry alone"}
"""What is asked of an upstream that always fails, and what the route has."""
FAILING_COLUMNS = ("policies", "requests", "hits", "hits/request", "breaker")


def render(runs: Sequence[Run], failing: Sequence[Run], busy: float) -> str:
    """The whole generated part, in Markdown. `busy` is the machine's load average before the first run."""
    parts = (
        _conditions(runs, busy),
        table(("goal", "", "limit", "measured", ""), goals(runs, failing)),
        "### More than the capacity\n\n" + table(COLUMNS, [_row(run) for run in runs]),
        "### An upstream that always fails\n\n" + table(FAILING_COLUMNS, [_failing_row(run) for run in failing]),
    )
    return "\n\n".join(parts) + "\n"


def write(runs: Sequence[Run], text: str) -> None:
    """Put tables and plots into docs/."""
    report.write(text, DOCUMENT)
    PLOT.write_text(plot(runs))


def goals(runs: Sequence[Run], failing: Sequence[Run]) -> list[tuple[str, ...]]:
    """What was promised of Tidegate, and what these runs say."""
    own = {run.factor: run for run in runs if run.target == OWN}
    rows = [_least(f"goodput at {factor}x, % of capacity", own[factor].goodput * 100, limit)
            for factor, limit in ((2, 95), (10, 90)) if factor in own]  # fmt: skip
    if worst := own.get(10):
        back = worst.recovery
        rows += [
            _most("p99 of what is admitted at 10x, ms", p99(served(worst.overloaded)) * 1000, _longest() * 1000),
            _most("p99 of the refusals at 10x, ms", p99(refused(worst.overloaded)) * 1000, 10),
            _most("recovered from 10x, s", float("inf") if back is None else back, 2),
        ]
    rows.append(_most("openings of the breaker under overload", sum(run.counts.opened or 0 for run in own.values()), 0))
    worst_amplification = max((run.amplification for run in failing), default=0.0)
    return [*rows, _most("upstream hits per request when all fail", worst_amplification, 1.1)]


def _longest() -> float:
    return SERVICE + QUEUE_WAIT


def _conditions(runs: Sequence[Run], busy: float) -> str:
    late = max(percentile((answer.late for answer in run.answers), 99) for run in runs)
    return (
        f"- Machine: {report.cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}; load average before the run {busy:.1f}.\n"
        f"- Capacity: {SLOTS} requests at a time of {SERVICE * 1000:g} ms each, {CAPACITY:g} a second.\n"
        f"- Pace of the load generator: in the worst run 99 % of the requests left at most {late * 1000:.1f} ms late."
    )


def _row(run: Run) -> tuple[str, ...]:
    answers = run.overloaded
    good, bad = served(answers), refused(answers)
    back = run.recovery
    return (
        run.target,
        f"{run.factor:g}x",
        f"{run.goodput:.0%}",
        _milliseconds(good, 50),
        _milliseconds(good, 99),
        _share(len(bad), answers),
        _milliseconds(bad, 99),
        _share(len(answers) - len(good) - len(bad), answers),
        f"{run.amplification:.2f}",
        f"{run.wasted:.0%}",
        _breaker(run),
        "not" if back is None else f"{back:.1f}",
    )


def _failing_row(run: Run) -> tuple[str, ...]:
    return FAILING[run.path], str(len(run.answers)), str(run.counts.hits), f"{run.amplification:.2f}", _breaker(run)


def _breaker(run: Run) -> str:
    if run.counts.opened is None:
        return ""
    opened = run.counts.opened
    return f"opened {'once' if opened == 1 else f'{opened} times'}" if opened else "closed"


def _milliseconds(answers: Sequence[Answer], percent: float) -> str:
    return f"{percentile((answer.seconds for answer in answers), percent) * 1000:.1f}" if answers else ""


def _share(count: int, answers: Sequence[Answer]) -> str:
    return f"{count / max(len(answers), 1):.0%}"


def _least(text: str, measured: float, limit: float) -> tuple[str, ...]:
    return text, "at least", f"{limit:g}", f"{measured:.3g}", "reached" if measured >= limit else "missed"


def _most(text: str, measured: float, limit: float) -> tuple[str, ...]:
    return text, "at most", f"{limit:g}", f"{measured:.3g}", "reached" if measured <= limit else "missed"
