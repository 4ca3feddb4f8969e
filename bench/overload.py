"""`python -m bench.overload`: what is left of a fixed capacity when more is asked for, and how fast it is back.

An upstream that can do 200 requests a second gets 1, 2, 5 and 10 times as much through a naive proxy and through
Tidegate, then 0.8 times. See docs/overload.md, which a full run rewrites.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from bench import overload_report
from bench.compare import say, workspace
from bench.overload_figures import Counts, Effort, Run
from bench.overload_load import Answer
from bench.overload_report import FAILING
from bench.overload_upstream import CAPACITY
from bench.process import ROOT, BenchError, Process, cores, free_port, get
from bench.targets import HERE, READY_PATH, Running, Target, find_targets

FACTORS = (1, 2, 5, 10)
CALM = 0.8
"""Load before and after, as a share of the capacity."""


def main() -> int:
    """Measure, print, and write the document unless the run was a quick one; 1 when it is void."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every child is stopped
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a second each: shows that it works, writes nothing")
    quick = parser.parse_args().quick
    busy = os.getloadavg()[0]
    try:
        runs, failing = experiment(Effort(1, 1, 1) if quick else Effort())
    except BenchError as error:
        print(f"overload: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    text = overload_report.render(runs, failing, busy)
    print(text)
    if quick:
        print("docs/overload.md is unchanged: it takes a full run.")
    else:
        overload_report.write(runs, text)
        print("Written to docs/overload.md and docs/overload.svg.")
    return 0


def experiment(
    effort: Effort, factors: Sequence[float] = FACTORS, names: Sequence[str] = ("naive", "tidegate")
) -> tuple[list[Run], list[Run]]:
    """The runs under overload, and those against an upstream that always fails."""
    targets = [target for name, target in _targets().items() if name in names]
    runs = [measure(target, READY_PATH, factor, effort) for target in targets for factor in factors]
    failing = [measure(_targets()["tidegate"], path, 1, Effort(0, effort.overload, 0)) for path in FAILING]
    return runs, failing


def measure(target: Target, path: str, factor: float, effort: Effort) -> Run:
    """Load a fresh `target` in front of a fresh upstream."""
    with workspace() as work, _upstream(work) as port, target.running(work, port) as up:
        before = _counts(up, port)
        answers = _put_load(up.port, path, factor, effort)
        after = _counts(up, port)
    opened = None if before.opened is None or after.opened is None else after.opened - before.opened
    counts = Counts(after.hits - before.hits, opened)
    served = sum(answer.status == 200 for answer in answers)
    say(f"{target.name} {path} {factor:g}x: {len(answers)} requests, {served} answered, {counts.hits} at the upstream")
    return Run(target.name, path, factor, effort, answers, counts)


def _targets() -> dict[str, Target]:
    found = {target.name: target for target in find_targets()[0]}
    return {
        "naive": found["naive"],
        "tidegate": Target("tidegate", metadata.version("tidegate"), _tidegate, ready_path="/readyz"),
    }


def _tidegate(work: Path, values: object) -> list[str]:
    return [sys.executable, "-m", "proxy", "serve", "--policies", str(HERE / "overload.yaml")]


@contextmanager
def _upstream(work: Path) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "bench.overload_upstream", str(port)]
    with Process(command, work / "upstream.log", cores()[1]) as process:
        process.wait_ready(port, READY_PATH)
        yield port


def _put_load(port: int, path: str, factor: float, effort: Effort) -> list[Answer]:
    phases = [(CALM, effort.before), (factor, effort.overload), (CALM, effort.after)]
    core = cores()[1]
    command = [sys.executable, "-m", "bench.overload_load", str(port), path]
    command += [f"{part * CAPACITY:g}:{seconds:g}" for part, seconds in phases]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    if done.returncode:
        raise BenchError(f"the load generator failed: {done.stderr}")
    return [Answer(*each) for each in json.loads(done.stdout)]


def _counts(up: Running, upstream_port: int) -> Counts:
    stats = json.loads(get(upstream_port, "/stats"))
    if not up.admin_port:
        return Counts(stats["hits"], None)
    lines = get(up.admin_port, "/metrics").splitlines()
    opened = [line for line in lines if line.startswith("proxy_breaker_transitions_total{") and 'to="open"' in line]
    return Counts(stats["hits"], sum(int(float(line.rpartition(" ")[2])) for line in opened))


if __name__ == "__main__":
    sys.exit(main())
