"""`python -m bench.cache_mix`: what the cache spares an upstream, and whether anybody ever sees what is no longer true.

Three sidecars with this repository's policies and one Redis stand before the property service, and get reads and
writes as a site of 10,000 properties would. See docs/cache-mix.md, which a full run rewrites.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench import cache_mix_report
from bench.cache_mix_load import Load
from bench.cache_mix_phases import Effort, Spread, Stampede, mix, outage, read_own_writes, stampede
from bench.cache_mix_site import running_site
from bench.cache_mix_tally import Tally
from bench.cache_mix_truth import Truth
from bench.cache_mix_workload import Mix, Parameters
from bench.compare import say, workspace
from bench.process import BenchError

QUICK = Effort(without=2, warm_up=4, steady=4, down=2, after=4, writes=30, misses=300, rounds=1)
SMALL = Parameters(properties=500)


@dataclass(frozen=True, slots=True)
class Results:
    """Everything one run has found."""

    parameters: Parameters
    effort: Effort
    without: Tally
    """The same mix without a cache."""
    warm_up: Tally
    steady: Tally
    away: Tally
    """While Redis was away."""
    back: Tally
    spread: Spread
    stampedes: Sequence[Stampede]

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """Of all phases with the cache."""
        return self.warm_up, self.steady, self.away, self.back, self.spread.tally


def main() -> int:
    """Measure, print, and write the document unless the run was a quick one; 1 when a goal is missed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every child is stopped
    parser = argparse.ArgumentParser(prog="python -m bench.cache_mix", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, 500 properties: nothing is written")
    parser.add_argument("--rate", type=float, default=Parameters().rate, help="the most requests a second")
    options = parser.parse_args()
    busy = os.getloadavg()[0]
    parameters = Parameters(properties=SMALL.properties if options.quick else 10_000, rate=options.rate)
    try:
        with workspace() as work:
            results = experiment(work, parameters, QUICK if options.quick else Effort())
    except BenchError as error:
        print(f"cache-mix: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    text = cache_mix_report.render(results, busy)
    print(text)
    if options.quick:
        print("docs/cache-mix.md is unchanged: it takes a full run.")
    else:
        cache_mix_report.write(text)
        print("Written to docs/cache-mix.md.")
    return 1 if cache_mix_report.missed(results) else 0


def experiment(work: Path, parameters: Parameters, effort: Effort) -> Results:
    """All phases; without the cache first. Raises BenchError."""
    say(str(parameters))
    without = uvloop.run(_without(work / "without", parameters, effort))
    return uvloop.run(_with(work / "with", parameters, effort, without))


async def _without(work: Path, parameters: Parameters, effort: Effort) -> Tally:
    with running_site(work, parameters.properties, caches=False) as site:
        load = Load(site.ports, parameters, Mix(parameters), Truth())
        with load.running():
            return await mix(site, load, "without a cache", effort.without)


async def _with(work: Path, parameters: Parameters, effort: Effort, without: Tally) -> Results:
    with running_site(work, parameters.properties, caches=True) as site:
        load = Load(site.ports, parameters, Mix(parameters), Truth())
        with load.running():
            warm_up = await mix(site, load, "warm-up", effort.warm_up)
            steady = await mix(site, load, "steady", effort.steady)
            away, back = await outage(site, load, effort)
            load.rate = parameters.rate / 4
            spread = await read_own_writes(site, load, effort)
        targets = [f"/properties/{number}/price-history" for number in range(1, effort.rounds + 1)]
        stampedes = [await stampede(site, target, effort) for target in targets]
    return Results(parameters, effort, without, warm_up, steady, away, back, spread, stampedes)


if __name__ == "__main__":
    sys.exit(main())
