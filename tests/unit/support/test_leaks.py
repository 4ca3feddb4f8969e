"""The leak check must find each kind of leak, and let a clean test pass."""

import asyncio
import socket

import pytest

from tests.support.client import get
from tests.support.leaks import no_leaks
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.both_loops


@pytest.fixture(autouse=True)
def settle_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.leaks.SETTLE", 0.05)


async def test_clean_exchange_passes() -> None:
    async with no_leaks(), ScriptedUpstream() as upstream:
        await get(upstream.port, "/")


async def test_pending_task_is_found() -> None:
    task = None
    with pytest.raises(AssertionError, match="pending tasks"):
        async with no_leaks():
            task = asyncio.create_task(asyncio.sleep(3600))
    assert task is not None
    task.cancel()


async def test_open_descriptors_are_found() -> None:
    sockets = []
    with pytest.raises(AssertionError, match="file descriptors"):
        async with no_leaks():
            sockets += [socket.socket() for _ in range(3)]
    for sock in sockets:
        sock.close()


async def test_error_that_nobody_retrieved_is_found() -> None:
    async def fail() -> None:
        raise LookupError("oops")

    with pytest.raises(AssertionError, match="oops"):
        async with no_leaks():
            task = asyncio.create_task(fail())
            await asyncio.wait([task])
            del task
