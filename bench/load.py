"""One measured run: wrk drives a target, /proc says what that cost the target."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.process import BenchError, cores, probe
from bench.scenarios import Scenario
from bench.targets import Running

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round of one scenario cost one target."""

    scenario: str
    target: str
    cpu_us: float
    """Processor time per completed request, in microseconds."""
    throughput: float
    """Requests per second."""
    p50_ms: float
    p99_ms: float


def measure(target: Running, scenario: Scenario, seconds: int) -> Sample:
    """Put load on `target` for `seconds`. Raises BenchError if any answer was not the expected one."""
    check_answer(target, scenario)
    before = target.process.cpu_seconds()
    output = run_wrk(target.port, scenario, seconds)
    spent = target.process.cpu_seconds() - before
    if target.access_log.exists():
        os.truncate(target.access_log, 0)  # a fast target writes 40 MB a second
    return parse(output, scenario, target.name, spent)


def check_answer(target: Running, scenario: Scenario) -> None:
    """Ask once, or until nobody is spared: wrk counts errors but cannot tell a 404 from a 503."""
    body = b"x" * scenario.body if scenario.body else None
    for _ in range(1 + scenario.spared):
        status = probe(target.port, scenario.path, method=scenario.method, body=body)
    if status != scenario.status:
        raise BenchError(f"{target.name}, {scenario.name}: void, answered {status} instead of {scenario.status}")


def run_wrk(port: int, scenario: Scenario, seconds: int) -> str:
    """Run wrk to its end on the load core and return what it printed."""
    program = shutil.which("wrk")
    if program is None:
        raise BenchError("wrk is not installed (Debian: apt-get install wrk)")
    core = cores()[1]
    command = [program, "-t1", f"-c{scenario.connections}", f"-d{seconds}s", "-s", str(SCRIPT)]
    command += [f"http://127.0.0.1:{port}{scenario.path}", "--", scenario.method, str(scenario.body)]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 20, check=False)
    if done.returncode:
        raise BenchError(f"wrk failed: {done.stderr or done.stdout}")
    return done.stdout


def parse(output: str, scenario: Scenario, target: str, cpu_seconds: float) -> Sample:
    """Read the RESULT line of wrk.lua. Raises BenchError if one answer was not the expected one."""
    result = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if result is None:
        raise BenchError(f"{target}, {scenario.name}: void, wrk printed no result:\n{output}")
    requests, duration_us, refused, broken, p50_us, p99_us = map(int, result.split()[1:])
    unexpected = broken + (refused if scenario.status < 400 else requests - refused)
    if unexpected > scenario.spared or not requests:
        raise BenchError(
            f"{target}, {scenario.name}: void, {unexpected} of {requests} requests failed "
            f"({refused} with status 400 or above, {broken} on the socket)"
        )
    return Sample(
        scenario=scenario.name,
        target=target,
        cpu_us=cpu_seconds * 1e6 / requests,
        throughput=requests / (duration_us / 1e6),
        p50_ms=p50_us / 1000,
        p99_ms=p99_us / 1000,
    )
