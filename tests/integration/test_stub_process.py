import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client import RawClient, get
from tests.support.stub import PROCESS_WITHIN, running_stub, start_stub
from tests.support.waiting import eventually
from upstream_stub.dataset import generate


def dump(folder: Path) -> list[str]:
    """The database as sorted statements: the order in which indexes were made may differ."""
    connection = sqlite3.connect(folder / "properties.db")
    try:
        return sorted(connection.iterdump())
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_status_0(tmp_path: Path, number: signal.Signals) -> None:
    with running_stub(tmp_path, properties=5) as stub:
        assert stub.stop(number) == 0
        assert stub.log() == "upstream_stub: created 5 properties\n"


async def test_open_requests_do_not_hold_up_the_end(tmp_path: Path) -> None:
    with running_stub(tmp_path, properties=5) as stub:
        async with RawClient(stub.port) as hanging, RawClient(stub.port) as idle:
            await idle.request("GET", "/health")
            await hanging.send_request("GET", "/health", {"X-Stub-Fault": "hang"})
            await idle.request("GET", "/health")
            assert stub.stop() == 0
            assert await hanging.ended_within() != "open"


def test_two_fresh_databases_are_the_same(tmp_path: Path) -> None:
    dumps = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        with running_stub(folder, properties=600):
            pass
        dumps.append(dump(folder))
    assert dumps[0] == dumps[1]
    assert len(dumps[0]) > 600


def test_a_property_does_not_depend_on_the_size_of_the_set() -> None:
    assert list(generate(40))[:10] == list(generate(10))


def test_the_data_set_is_the_known_one() -> None:
    prices = [rows.property["price"] for rows in generate(1000)]
    assert (prices[0], sum(prices)) == (866_000, 1_436_838_000)


async def test_writes_survive_a_restart(tmp_path: Path) -> None:
    with running_stub(tmp_path, properties=5) as stub:
        async with RawClient(stub.port) as client:
            await client.request("DELETE", "/properties/1")
    with running_stub(tmp_path, properties=5) as stub:
        assert (await get(stub.port, "/properties/1")).status == 404
        assert stub.log().count("created") == 1


async def test_a_crash_while_the_data_is_written_leaves_none_of_it(tmp_path: Path) -> None:
    journal = tmp_path / "properties.db-wal"
    with start_stub(tmp_path, 1_000_000, tmp_path / "crashed.log") as process:
        try:
            await eventually(lambda: journal.exists() and journal.stat().st_size > 1_000_000, PROCESS_WITHIN)
        finally:
            process.kill()
    with running_stub(tmp_path, properties=5) as stub:
        assert (await get(stub.port, "/admin/stats")).json()["properties"] == 5


async def test_a_signal_while_the_data_is_written_ends_it_with_status_0(tmp_path: Path) -> None:
    journal = tmp_path / "properties.db-wal"
    with start_stub(tmp_path, 1_000_000, tmp_path / "stub.log") as process:
        try:
            await eventually(lambda: journal.exists() and journal.stat().st_size > 1_000_000, PROCESS_WITHIN)
            process.terminate()
            assert process.wait(PROCESS_WITHIN) == 0
        finally:
            process.kill()


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        log = tmp_path / "stub.log"
        with start_stub(tmp_path, 5, log, "--port", str(taken.getsockname()[1])) as process:
            assert process.wait(PROCESS_WITHIN) == 1
        assert log.read_text(encoding="utf-8").startswith("upstream_stub: cannot start: [Errno 98]")
        assert log.read_text(encoding="utf-8").count("\n") == 1


def test_a_database_that_cannot_be_opened_is_said_in_one_line(tmp_path: Path) -> None:
    log = tmp_path / "stub.log"
    with start_stub(tmp_path / "missing", 5, log) as process:
        assert process.wait(PROCESS_WITHIN) == 1
    assert log.read_text(encoding="utf-8").count("\n") == 1


def test_the_default_database_hides_itself_from_git(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "upstream_stub", "--port", "0", "--properties", "5"]
    environment = {name: value for name, value in os.environ.items() if name != "STUB_DATABASE_URL"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("upstream_stub: listening on http://127.0.0.1:")
        process.terminate()
    assert process.returncode == 0
    assert sorted(path.name for path in (tmp_path / ".stub").iterdir()) == [".gitignore", "properties-5.db"]
    assert (tmp_path / ".stub/.gitignore").read_text() == "*\n"
