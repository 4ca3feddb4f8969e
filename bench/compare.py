"""The comparison: all targets up at once, rounds interleaved so that drift of the machine hits them alike."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import Sample, measure
from bench.scenarios import Scenario
from bench.startup import Start, measure_starts
from bench.targets import Running, Target, running_origin

WARM_UP = 1
"""Seconds of load on each target before a scenario's first round; not counted."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: int
    starts: int


@dataclass(frozen=True, slots=True)
class Results:
    """Everything one run measured."""

    origin: str
    effort: Effort
    starts: list[Start]
    samples: list[Sample]
    loaded_rss: dict[str, int]
    """Resident bytes of each target after all its load."""


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for configurations and logs, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        yield Path(folder)


def compare(targets: Sequence[Target], scenarios: Sequence[Scenario], effort: Effort) -> Results:
    """Measure every scenario on every target. Raises BenchError when an answer was wrong."""
    with workspace() as work, running_origin(work) as (origin, origin_name):
        say(f"starts: {effort.starts} of each target")
        starts = measure_starts(targets, work, origin, effort.starts)
        with ExitStack() as stack:
            up = [stack.enter_context(target.running(work, origin)) for target in targets]
            samples = [
                sample
                for scenario in scenarios
                for sample in _rounds([target for target in up if scenario.suits(target.name)], scenario, effort)
            ]
            loaded_rss = {target.name: target.process.rss() for target in up}
    return Results(origin_name, effort, starts, samples, loaded_rss)


def say(text: str) -> None:
    """Tell the person who waits how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _rounds(up: Sequence[Running], scenario: Scenario, effort: Effort) -> Iterator[Sample]:
    for target in up:
        measure(target, scenario, WARM_UP)
    for number in range(effort.rounds):
        for target in up:
            sample = measure(target, scenario, effort.seconds)
            figures = f"{sample.cpu_us:.1f} us, {sample.throughput:.0f}/s"
            say(f"{scenario.name} {number + 1}/{effort.rounds} {target.name}: {figures}")
            yield sample
