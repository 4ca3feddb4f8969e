"""How long a start takes, what an idle process holds, and where Tidegate's start goes."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.targets import Target

SETTLE = 0.5
"""Seconds between readiness and the look at idle memory."""


@dataclass(frozen=True, slots=True)
class Start:
    """What starting one target gave: once, or the medians of all runs."""

    target: str
    data_seconds: float
    """From exec to the first proxied 200."""
    admin_seconds: float | None
    """From exec to the first 200 of the readiness check; None where there is none."""
    idle_rss: float
    """Resident bytes, half a second later."""


def measure_starts(targets: Sequence[Target], work: Path, origin: int, runs: int) -> list[Start]:
    """Start and stop every target `runs` times, taking turns."""
    seen: dict[str, list[Start]] = {target.name: [] for target in targets}
    for _ in range(runs):
        for target in targets:
            seen[target.name].append(_start_once(target, work, origin))
    return [_median(starts) for starts in seen.values()]


def import_times(lines: int = 25) -> str:
    """The slowest imports of `tidegate`, slowest own time first: own and cumulative microseconds, module."""
    command = [sys.executable, "-X", "importtime", "-c", "import proxy.cli, proxy.app"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr
    rows = [row.removeprefix("import time:").split("|") for row in said.splitlines() if "|" in row][1:]
    rows.sort(key=lambda row: -int(row[0]))
    total = sum(int(row[0]) for row in rows)
    table = [f"{int(row[0]):>8} {int(row[1]):>8}  {row[2].strip()}" for row in rows[:lines]]
    return "\n".join([f"{len(rows)} modules, {total} us", "     own    total  module", *table])


def _start_once(target: Target, work: Path, origin: int) -> Start:
    with target.running(work, origin) as up:
        time.sleep(SETTLE)
        return Start(up.name, up.data_seconds, up.admin_seconds, up.process.rss())


def _median(starts: Sequence[Start]) -> Start:
    admin = [start.admin_seconds for start in starts if start.admin_seconds is not None]
    return Start(
        target=starts[0].target,
        data_seconds=median(start.data_seconds for start in starts),
        admin_seconds=median(admin) if admin else None,
        idle_rss=median(start.idle_rss for start in starts),
    )
