"""A limit on waiting that lets pass what has arrived by the time it is noticed."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from proxy.storage.patience import Patience
from tests.support.waiting import WITHIN

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def streams() -> AsyncIterator[list[Stream]]:
    """Two that are connected."""
    ends = [await asyncio.open_connection(sock=each) for each in socket.socketpair()]
    yield ends
    for _, writer in ends:
        writer.close()
        await writer.wait_closed()


@pytest.mark.both_loops
async def test_what_never_comes_is_waited_for_no_longer_than_the_limit() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(WITHIN), Patience(0.01):
            await asyncio.Event().wait()


@pytest.mark.both_loops
async def test_what_has_come_before_the_limit_was_noticed_is_in_time(streams: list[Stream]) -> None:
    loop = asyncio.get_running_loop()
    (reader, _), (_, writer) = streams

    async with Patience(0.05):
        loop.call_soon(writer.write, b"answer")
        loop.call_soon(time.sleep, 0.3)
        assert await reader.read(100) == b"answer"


@pytest.mark.both_loops
async def test_whoever_is_in_time_leaves_no_timer() -> None:
    patience = Patience(WITHIN)

    async with patience:
        pass

    assert patience._timer is not None
    assert patience._timer.cancelled()


@pytest.mark.both_loops
async def test_a_cancellation_is_not_taken_for_the_limit() -> None:
    async def wait() -> None:
        async with Patience(WITHIN):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
