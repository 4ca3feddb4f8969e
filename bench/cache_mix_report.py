"""Tables of the cache experiment, for docs/cache-mix.md."""

import os
import platform
from typing import TYPE_CHECKING

from bench import report
from bench.cache_mix_site import SIDECARS
from bench.cache_mix_tally import Tally
from bench.cache_mix_workload import lists, searches
from bench.overload_figures import percentile
from bench.report import table

if TYPE_CHECKING:
    from bench.cache_mix import Results

DOCUMENT = report.DOCUMENT.with_name("cache-mix.md")
MAX_GAP = 10.0
"""Seconds: the default of `cache.max_gap`."""
COLUMNS = (
    "phase",
    "requests",
    "requests/s",
    "hit ratio",
    "memory",
    "Redis",
    "stale",
    "collapsed",
    "revalidated",
    "p50 ms",
    "p99 ms",
    "upstream/request",
    "queries/request",
    "errors",
)
KINDS = ("detail", "search", "list")


def render(results: "Results", busy: float) -> str:
    """The whole generated part, in Markdown. `busy` is the machine's load average before the first phase."""
    rows = [_row(tally) for tally in (results.without, *results.tallies)]
    ratios = [(kind, *(f"{tally.hit_ratio(kind):.1%}" for tally in results.tallies[:4])) for kind in KINDS]
    parts = (
        _conditions(results, busy),
        table(("goal", "", "limit", "measured", ""), goals(results)),
        "### Phases\n\n" + table(COLUMNS, rows),
        "### Hit ratios\n\n" + table(("reads", *(tally.name for tally in results.tallies[:4])), ratios),
        "### Writes and stampedes\n\n" + _writes(results),
    )
    return "\n\n".join(parts) + "\n"


def write(text: str) -> None:
    """Put the tables into docs/."""
    report.write(text, DOCUMENT)


def missed(results: "Results") -> list[str]:
    """The goals that were not reached."""
    return [row[0] for row in goals(results) if row[-1] != "reached"]


def goals(results: "Results") -> list[tuple[str, ...]]:
    """What was promised, and what this run says."""
    steady, spread = results.steady, results.spread
    calm = (results.warm_up, steady, spread.tally)
    broken = (results.away, results.back)
    outdated = sum(each.outdated_own for each in results.tallies) + spread.unseen
    return [
        _least("hit ratio, % of the reads", steady.hit_ratio() * 100, 85),
        _least("upstream requests spared, %", spared(results, "asked_of_upstream") * 100, 85),
        _most("reads outdated on the instance of the write", outdated, 0),
        _most("reads elsewhere: longest outdated, s", max(each.others_lag for each in calm), 1),
        _most("writes that were never seen elsewhere", spread.never, 0),
        _most("longest outdated, Redis away and just back, s", max(each.others_lag for each in broken), MAX_GAP),
        _most("answers that were not asked for", sum(each.wrong for each in results.tallies), 0),
        _most("errors, in all phases", sum(each.errors for each in results.tallies), 0),
        _least("hit ratio while Redis was away, %", results.away.hit_ratio() * 100, 50),
        _most("upstream requests of a stampede", max(each.hits for each in results.stampedes), 1),
        _least("its requests that were answered, %", min(e.answered / e.asked for e in results.stampedes) * 100, 100),
        _most("different answers to it", max(each.bodies for each in results.stampedes), 1),
    ]


def spared(results: "Results", figure: str) -> float:
    """By how much `figure`, of a Tally, falls with the cache."""
    without: float = getattr(results.without, figure)
    share: float = getattr(results.steady, figure) / without
    return 1 - share


def _conditions(results: "Results", busy: float) -> str:
    mix, effort = results.parameters, results.effort
    return (
        f"- Machine: {report.cpu_model()}, {os.cpu_count()} cores for everything, {platform.system()} "
        f"{platform.release()}; Python {platform.python_version()}; load average before the run {busy:.1f}.\n"
        f"- Mix: {mix.writes:.0%} writes, half PUT, half PATCH; of the reads {mix.detail:.0%} details of "
        f"{mix.properties:,} properties, {mix.search:.0%} searches out of {len([*searches()])}, {mix.list:.0%} lists "
        f"out of {len([*lists()]) + 1}; Zipf exponent {mix.exponent:g} for each.\n"
        f"- Load: {SIDECARS} sidecars with {mix.clients} clients each, at most {mix.rate:g} requests a second in all; "
        f"writes through any of them.\n"
        f"- Seconds: {effort.without:g} without a cache, {effort.warm_up:g} of warm-up, {effort.steady:g} measured; "
        f"Redis killed for {effort.down:g}, {effort.after:g} after its return."
    )


def _row(tally: Tally) -> tuple[str, ...]:
    shares = [_share(tally.count(outcome), tally.reads) for outcome in ("memory", "redis", "stale", "collapsed")]
    return (
        tally.name,
        str(tally.requests),
        f"{tally.requests / max(tally.seconds, 0.001):.0f}",
        _share(tally.hit_ratio(), 1),
        *shares,
        _share(tally.count("revalidated"), tally.reads),
        f"{percentile(tally.took, 50) * 1000:.1f}",
        f"{percentile(tally.took, 99) * 1000:.1f}",
        f"{tally.asked_of_upstream:.3f}",
        f"{tally.queried:.3f}",
        str(tally.errors),
    )


def _writes(results: "Results") -> str:
    spread, seconds = results.spread, results.spread.seconds
    lines = [
        f"- {spread.writes} writes, the property and a list with it read at once: {spread.unseen} reads on the same "
        f"instance did not show it. On the others both did after {percentile(seconds, 50) * 1000:.1f} ms (median), "
        f"{percentile(seconds, 99) * 1000:.1f} ms (p99), {max(seconds, default=0) * 1000:.1f} ms (longest).",
        f"- Statements at the upstream's database, where each write makes several, fell by "
        f"{spared(results, 'queried'):.1%}.",
    ]
    lines += [
        f"- {each.asked} concurrent misses over {SIDECARS} processes: {each.hits} at the upstream, all answered within "
        f"{each.seconds:.2f} s."
        for each in results.stampedes
    ]
    return "\n".join(lines)


def _share(count: float, of: float) -> str:
    return f"{count / max(of, 1):.1%}"


def _least(text: str, measured: float, limit: float) -> tuple[str, ...]:
    return text, "at least", f"{limit:g}", f"{measured:.4g}", "reached" if measured >= limit else "missed"


def _most(text: str, measured: float, limit: float) -> tuple[str, ...]:
    return text, "at most", f"{limit:g}", f"{measured:.4g}", "reached" if measured <= limit else "missed"
