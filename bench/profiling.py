"""Where a Python target's microseconds go: perf samples it under load, the stacks are added up by function.

From 3.13 on, CPython tells perf the names of Python functions, so one stack shows Python, C and kernel.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.compare import WARM_UP, say, workspace
from bench.load import measure
from bench.process import BenchError
from bench.report import table
from bench.scenarios import Scenario
from bench.targets import Running, Target, running_origin

RATE = 999
"""Samples per second."""
STACK = 16 * 1024
"""Bytes of stack copied with each sample."""
ROWS = 25
FRAME = re.compile(r"\s+[0-9a-f]+ (?P<symbol>.*) \((?P<library>[^()]*)\)")
PYTHON = re.compile(r"py::(?P<function>[^:]+):(?P<file>.*)")
PACKAGE_ROOT = re.compile(r".*/(?:site-packages|python3\.\d+)/|.*/(?=(?:proxy|bench)/)")
SHARED_OBJECT = re.compile(r"(?:\.cpython-[^/]*)?\.so[0-9.]*$")
LIBC_PREFIX = re.compile(r"^_*(?:GI_+)?(?:libc_)?")
INTERPRETER = re.compile(r"/(?:libpython|python|ld-linux)[^/]*$")


class Frame(NamedTuple):
    """One call in a stack: a C symbol and its library, or a Python function and its file."""

    name: str
    place: str
    is_python: bool = False

    @property
    def is_kernel(self) -> bool:
        """Whether it runs on the far side of a system call."""
        return self.place.startswith("[")


OUTSIDE = Frame("", "(outside Python)", is_python=True)
Stack = list[Frame]
"""Innermost call first."""


def profile(target: Target, scenario: Scenario, seconds: int) -> str:
    """Tables of CPU time per request. Raises BenchError where perf or CPython 3.13 is missing."""
    perf = shutil.which("perf")
    if perf is None or sys.version_info < (3, 13):
        raise BenchError("profiling needs CPython 3.13 or newer and perf (Debian: apt-get install linux-perf)")
    with workspace() as work, running_origin(work) as (origin, _):
        say(f"{target.name}, {scenario.name}: {seconds} s undisturbed, then {seconds} s under perf")
        with target.running(work, origin) as up:
            measure(up, scenario, WARM_UP)
            cost = measure(up, scenario, seconds).cpu_us
        with target.running(work, origin, {"PYTHON_PERF_JIT_SUPPORT": "1"}) as up:
            measure(up, scenario, WARM_UP)
            script = record(perf, up, scenario, work, seconds)
    return render(list(parse_stacks(script.splitlines())), cost)


def record(perf: str, target: Running, scenario: Scenario, work: Path, seconds: int) -> str:
    """Load the target while perf watches it; return the text of `perf script`."""
    raw, joined = str(work / "perf.data"), str(work / "perf.jit.data")
    pid = target.process.pid
    watch = ["record", "-q", "-N", "-k", "1", "-F", str(RATE), "--call-graph", f"dwarf,{STACK}", "-o", raw]
    try:
        with subprocess.Popen([perf, *watch, "-p", str(pid), "--", "sleep", str(seconds)]):
            measure(target, scenario, seconds + 1)
        _perf(perf, work, "inject", "--jit", "-i", raw, "-o", joined)
        return _perf(perf, work, "script", "-i", joined, "-F", "ip,sym,dso")
    finally:
        for pattern in (f"jit-{pid}.dump", f"jitted-{pid}-*.so"):
            for left in Path("/tmp").glob(pattern):  # CPython and perf write there and nowhere else
                left.unlink()


def parse_stacks(lines: Iterable[str]) -> Iterator[Stack]:
    """The stacks in the output of `perf script`: a line per frame, a blank line after each stack."""
    stack: Stack = []
    for line in lines:
        if found := FRAME.fullmatch(line):
            stack.append(_frame(found["symbol"], found["library"]))
        elif stack:
            yield stack
            stack = []
    if stack:
        yield stack


def render(stacks: list[Stack], cost: float) -> str:
    """Three tables in microseconds per request: by file, by function and kind of work, by function with callees."""
    unit = cost / len(stacks)
    own = Counter((_innermost(stack), _work(stack)) for stack in stacks)
    files = Counter(_innermost(stack).place for stack in stacks)
    kinds = Counter(_work(stack) for stack in stacks)
    whole = Counter(frame for stack in stacks for frame in {frame for frame in stack if frame.is_python})
    return "\n\n".join(
        (
            f"{cost:.1f} µs CPU per request undisturbed, {len(stacks)} samples",
            "Kind of work:\n" + _table(("work",), (((kind,), n) for kind, n in kinds.most_common(ROWS)), unit),
            "Own time by file (C and kernel count for their Python caller):\n"
            + _table(("file",), (((file,), n) for file, n in files.most_common(ROWS)), unit),
            "Own time by function and kind of work:\n"
            + _table(
                ("function", "work"), (((_label(frame), work), n) for (frame, work), n in own.most_common(ROWS)), unit
            ),
            "Time by function, with all it calls:\n"
            + _table(("function",), (((_label(frame),), n) for frame, n in whole.most_common(2 * ROWS)), unit),
        )
    )


def _perf(perf: str, work: Path, *arguments: str) -> str:
    command = [perf, "--buildid-dir", str(work / "buildid"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300, check=False)
    if done.returncode:
        raise BenchError(f"perf {arguments[0]} failed: {done.stderr}")
    return done.stdout


def _frame(symbol: str, library: str) -> Frame:
    if python := PYTHON.fullmatch(symbol):
        return Frame(python["function"], PACKAGE_ROOT.sub("", python["file"]), is_python=True)
    return Frame(symbol, SHARED_OBJECT.sub("", PACKAGE_ROOT.sub("", library)))


def _innermost(stack: Stack) -> Frame:
    return next((frame for frame in stack if frame.is_python), OUTSIDE)


def _work(stack: Stack) -> str:
    """The system call for kernel time, else the library whose code ran."""
    entry = next((frame for frame in stack if not frame.is_kernel), OUTSIDE)
    if stack[0].is_kernel:
        is_call = entry.place.endswith("/libc") or entry.name.startswith("__GI_")
        return "kernel " + (LIBC_PREFIX.sub("", entry.name) if is_call else "interrupts")
    place = next((frame.place for frame in stack if frame.place != "inlined" and not frame.is_python), "")
    return "interpreter" if INTERPRETER.search(place) else place.rpartition("/lib-dynload/")[2]


def _label(frame: Frame) -> str:
    return f"{frame.place} {frame.name}"


def _table(head: tuple[str, ...], counts: Iterable[tuple[tuple[str, ...], int]], unit: float) -> str:
    return table((*head, "µs/request"), [(*cells, f"{n * unit:.2f}") for cells, n in counts])
