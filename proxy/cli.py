"""The `tidegate` command: each sub-command is a thin call. Exit codes: 0 fine, 1 refused, 2 wrong usage."""

import argparse
import gc
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from proxy import __version__

if TYPE_CHECKING:
    from proxy.config.loader import Loaded

_DEFAULT_FILE = Path("policies.yaml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left, as `head` does: nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate", description="A sidecar reverse proxy, configured by policies.yaml."
    )
    parser.add_argument("--version", action="version", version=f"tidegate {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the proxy")
    serve.add_argument("--policies", metavar="FILE", type=Path, default=_DEFAULT_FILE, help="default: %(default)s")
    serve.set_defaults(run=_serve)

    check = commands.add_parser("check", help="tell whether a policies file can be used; prints every mistake")
    _add_file(check)
    check.set_defaults(run=_check)

    schema = commands.add_parser("schema", help="print the JSON Schema of policies.yaml, for editors")
    schema.set_defaults(run=_schema)

    routes = commands.add_parser("routes", help="print the routes in the order in which they are tried")
    _add_file(routes)
    routes.set_defaults(run=_routes)

    explain = commands.add_parser("explain", help="tell what would happen to one request, and why; sends nothing")
    explain.add_argument("file", metavar="FILE", type=Path)
    explain.add_argument("method", metavar="METHOD", help="as in GET")
    explain.add_argument("url", metavar="URL", help="a path such as /properties/1?full=yes, or a whole URL")
    explain.add_argument(
        "-H", dest="headers", metavar="'NAME: VALUE'", type=_header, action="append", default=[], help="may be repeated"
    )
    explain.set_defaults(run=_explain)

    purge = commands.add_parser("purge", help="purge responses from the cache of the instance that runs with a file")
    purge.add_argument("file", metavar="FILE", type=Path)
    what = purge.add_mutually_exclusive_group(required=True)
    what.add_argument("--url", help="a path with its query, under any authority, or a whole URL")
    what.add_argument("--tag", help="all that has this tag")
    what.add_argument("--pattern", metavar="TAG:*", help="all that has this tag or one below it")
    what.add_argument(
        "--user", action="append", help="all of one user; once for each thing where several tell users apart"
    )
    what.add_argument("--route", metavar="NAME", help="all responses of a route")
    what.add_argument("--all", action="store_const", const="true", help="everything")
    purge.add_argument("--soft", action="store_const", const="true", help="only make it stale")
    purge.set_defaults(run=_purge)
    return parser


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", default=_DEFAULT_FILE, help="default: %(default)s"
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not name or not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not a header: write 'Name: value'")
    return name, value.strip(" \t")


# --- commands -------------------------------------------------------------------------------------------------------
# Imports are inside, so that each command starts as fast as what it needs.


def _serve(arguments: argparse.Namespace) -> int:
    gc.disable()  # until the process is ready: nothing that is made on the way is garbage

    from proxy.serve import serve

    code: int = serve(arguments.policies)
    return code


def _check(arguments: argparse.Namespace) -> int:
    loaded = _load(arguments.file)
    if loaded is None:
        return 1
    for warning in loaded.warnings:
        print(warning, file=sys.stderr)
    config = loaded.config
    profile = f", profile {config.profile}" if config.profile else ""
    routes, upstreams = _count(len(config.routes), "route"), _count(len(config.upstreams), "upstream")
    _print_lines([f"{arguments.file}: good ({routes}, {upstreams}{profile})"])
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    import json

    from proxy.config.schema import policies_schema

    print(json.dumps(policies_schema(), indent=2))
    return 0


def _routes(arguments: argparse.Namespace) -> int:
    from proxy.route_table import route_table

    loaded = _load(arguments.file)
    if loaded is None:
        return 1
    _print_lines(route_table(loaded.config))
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from proxy.explain import Refused, explain

    loaded = _load(arguments.file)
    if loaded is None:
        return 1
    try:
        _print_lines(explain(loaded, arguments.method, arguments.url, arguments.headers))
    except Refused as refusal:
        _print_lines(str(refusal).splitlines())
        return 1
    return 0


def _purge(arguments: argparse.Namespace) -> int:
    from proxy.purge_command import PurgeFailed, purge

    loaded = _load(arguments.file)
    if loaded is None:
        return 1
    wishes = []
    for name in ("url", "tag", "pattern", "user", "route", "all", "soft"):
        value = getattr(arguments, name)
        wishes += [(name, each) for each in ([value] if isinstance(value, str) else value or ())]
    try:
        lines, is_complete = purge(loaded.config, wishes)
    except PurgeFailed as failure:
        print(f"tidegate: {failure}", file=sys.stderr)
        return 1
    _print_lines(lines)
    if not is_complete:
        print("tidegate: not everybody has taken it yet; who has not is told as soon as possible", file=sys.stderr)
    return 0 if is_complete else 1


def _load(path: Path) -> "Loaded | None":
    """The file's configuration; None when it has problems, which are then on stderr."""
    from proxy.config.problems import ConfigError
    from proxy.policies_file import load

    try:
        return load(path)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return None


def _print_lines(lines: Iterable[str]) -> None:
    """Print what may hold bytes of a request: nothing in it may steer the terminal."""
    for line in lines:
        print("".join(char if char.isprintable() else ascii(char)[1:-1] for char in line))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
