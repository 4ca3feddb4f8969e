"""`python -m upstream_stub`: the property service on one port, its data in one file."""

import argparse
import asyncio
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from upstream_stub.application import build_app
from upstream_stub.database import open_database
from upstream_stub.faults import FaultRules
from upstream_stub.serving import serve

DATA_FOLDER = Path(".stub")
BAR_WIDTH = 40


def main() -> int:
    """Runs the service until SIGINT or SIGTERM; the exit status is 0 then, 1 when it cannot start."""
    options = _parse_options()
    try:
        asyncio.run(_until_signal(_run(options)))
    except (ImportError, OSError, sqlite3.Error, SQLAlchemyError) as error:
        print(f"upstream_stub: cannot start: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="upstream_stub", description="A property API with faults on demand.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000, help="0: any free one, named in the first line of output")
    parser.add_argument(
        "--database",
        metavar="URL",
        default=os.environ.get("STUB_DATABASE_URL"),
        help="SQLAlchemy URL, also from STUB_DATABASE_URL; default: a file in .stub/ of the current folder",
    )
    parser.add_argument("--properties", type=int, default=10_000, metavar="N", help="how many a new database gets")
    return parser.parse_args()


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _run(options: argparse.Namespace) -> None:
    with socket.create_server((options.host, options.port), backlog=100) as listener:
        url = options.database or _default_database(options.properties)
        engine = await open_database(url, options.properties, _draw_bar if sys.stderr.isatty() else _log_end)
        try:
            host, port = listener.getsockname()[:2]
            print(f"upstream_stub: listening on http://{host}:{port}", flush=True)
            await serve(build_app(engine, FaultRules(time.monotonic, Random(0).random)), listener)
        finally:
            await engine.dispose()


def _default_database(properties: int) -> str:
    """A file for this size of the data set, in a folder that git does not see."""
    DATA_FOLDER.mkdir(exist_ok=True)
    (DATA_FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
    return f"sqlite+aiosqlite:///{DATA_FOLDER / f'properties-{properties}.db'}"


def _draw_bar(stored: int, count: int) -> None:
    done = BAR_WIDTH * stored // count
    bar = "#" * done + "-" * (BAR_WIDTH - done)
    print(
        f"\rCreating properties [{bar}] {stored:,} of {count:,}", end="\n" if stored == count else "", file=sys.stderr
    )


def _log_end(stored: int, count: int) -> None:
    if stored == count:
        print(f"upstream_stub: created {count:,} properties", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
