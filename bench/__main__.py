"""`python -m bench`: measure Tidegate beside its peers. `python -m bench --help` lists the parts."""

import argparse
import signal
import sys

from bench import report
from bench.compare import Effort, compare, workspace
from bench.process import BenchError
from bench.profiling import profile
from bench.scenarios import SCENARIOS
from bench.startup import import_times, measure_starts
from bench.targets import Target, find_targets, running_origin

THOROUGH = Effort(rounds=5, seconds=3, starts=10)
QUICK = Effort(rounds=2, seconds=1, starts=2)


def main() -> int:
    """Run the part that was asked for; 1 when the measurement is void."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every child is stopped
    options = parse_arguments()
    try:
        options.run(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    """Without a command it is `compare`."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Tidegate beside its peers.")
    commands = parser.add_subparsers()
    _add_compare(commands.add_parser("compare", help="all targets side by side (the default)"))
    start = commands.add_parser("start", help="time to readiness and idle memory")
    start.add_argument("--runs", type=int, default=THOROUGH.starts)
    start.add_argument("--imports", action="store_true", help="show where the imports of Tidegate spend their time")
    start.set_defaults(run=run_start)
    profiler = commands.add_parser("profile", help="where Tidegate's microseconds go, by function")
    profiler.add_argument("scenario", choices=SCENARIOS, nargs="?", default="get")
    profiler.add_argument("--seconds", type=int, default=8)
    profiler.add_argument("--target", default="tidegate", choices=("tidegate", "tidegate-no-lane", "naive"))
    profiler.set_defaults(run=run_profile)
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in (*commands.choices, "-h", "--help"):
        arguments = ["compare", *arguments]
    return parser.parse_args(arguments)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; without: the standard ones")
    parser.add_argument("--targets", help="comma-separated names; without: all")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int, help="length of a round")
    parser.add_argument("--starts", type=int)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s: shows that it works, proves nothing")
    parser.set_defaults(run=run_compare)


def run_compare(options: argparse.Namespace) -> None:
    """Print the tables; a thorough run of everything also writes them to docs/performance.md."""
    unknown = [name for name in options.scenario if name not in SCENARIOS]
    if unknown:
        raise BenchError(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    scenarios = [s for s in SCENARIOS.values() if s.name in options.scenario or (s.standard and not options.scenario)]
    targets, missing = chosen_targets(options.targets)
    base = QUICK if options.quick else THOROUGH
    effort = Effort(options.rounds or base.rounds, options.seconds or base.seconds, options.starts or base.starts)
    text = report.render(compare(targets, scenarios, effort), targets, missing)
    print(text)
    if options.quick or options.scenario or options.targets or missing:
        print("docs/performance.md is unchanged: it takes a full run with all targets.")
    else:
        report.write(text)
        print("Written to docs/performance.md.")


def run_start(options: argparse.Namespace) -> None:
    """Print start times and idle memory of every target."""
    if options.imports:
        print(import_times())
        return
    targets, _ = find_targets()
    with workspace() as work, running_origin(work) as (origin, _):
        print(report.start_table(measure_starts(targets, work, origin, options.runs), {}))


def run_profile(options: argparse.Namespace) -> None:
    """Print where one target's time goes."""
    [target] = chosen_targets(options.target)[0]
    print(profile(target, SCENARIOS[options.scenario], options.seconds))


def chosen_targets(names: str | None) -> tuple[list[Target], dict[str, str]]:
    """The installed targets among `names`, and what is missing. Raises BenchError for an unknown name."""
    found, missing = find_targets()
    if names is None:
        return found, missing
    wanted = names.split(",")
    unknown = set(wanted) - {target.name for target in found}
    if unknown:
        raise BenchError(f"no such target here: {', '.join(sorted(unknown))}")
    return [target for target in found if target.name in wanted], missing


if __name__ == "__main__":
    sys.exit(main())
