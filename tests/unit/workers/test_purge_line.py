"""Purges on their way from one process to another: taken, not taken in time, too many, and nobody there."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from proxy.protocol.caching.stored import Validity
from proxy.workers.channel import Channel, Handler
from proxy.workers.purge_line import MAX_BACKLOG, PurgeLine
from tests.support.waiting import WITHIN, eventually

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("leak_check")]


@contextlib.asynccontextmanager
async def line_to(handlers: Mapping[str, Handler]) -> AsyncIterator[tuple[PurgeLine, Channel]]:
    """A line, and the other end of its channel."""
    one, other = socket.socketpair()
    ours, theirs = await Channel.open(one, {}), await Channel.open(other, handlers)
    try:
        yield PurgeLine(ours, "heard"), theirs
    finally:
        await ours.close()
        await theirs.close()


class Hearer:
    """Takes purges, and says so."""

    def __init__(self, *, takes: bool = True) -> None:
        self.heard: list[tuple[list[str], int]] = []
        self.came = asyncio.Event()
        self._takes = takes

    def __call__(self, tags: list[str], validity: int) -> bool:
        self.heard.append((tags, validity))
        self.came.set()
        return self._takes


@pytest.mark.parametrize("takes", [True, False])
async def test_purge_arrives_and_its_sender_hears_whether_it_was_taken(takes: bool) -> None:
    hearer = Hearer(takes=takes)
    async with line_to({"heard": hearer}) as (line, _):
        assert await line.send(("a", "b"), Validity.INVALID) is takes

    assert hearer.heard == [(["a", "b"], 2)]


async def test_who_does_not_answer_is_waited_for_only_briefly() -> None:
    async def hang(**_: Any) -> None:
        await asyncio.Event().wait()

    async with line_to({"heard": hang}) as (line, _):
        assert await line.send(("a",), 3) is False


async def test_without_waiting_it_is_sent_all_the_same() -> None:
    hearer = Hearer()
    async with line_to({"heard": hearer}) as (line, _):
        assert await line.send(("a",), 3, waits=False) is False
        await asyncio.wait_for(hearer.came.wait(), WITHIN)

    assert hearer.heard == [(["a"], 3)]


@pytest.mark.parametrize("waits", [True, False])
async def test_who_is_gone_has_nothing_that_could_be_outdated(waits: bool) -> None:
    async with line_to({}) as (line, theirs):
        await theirs.close()
        async with asyncio.timeout(WITHIN):
            while not await line.send(("a",), 3, waits=waits):  # noqa: ASYNC110
                await asyncio.sleep(0)


async def test_who_goes_while_it_is_asked_has_nothing_either() -> None:
    async def go(**_: Any) -> None:
        theirs._writer.transport.abort()

    async with line_to({"heard": go}) as (line, theirs):
        assert await line.send(("a",), 3) is True


async def test_more_than_the_other_side_takes_becomes_one_purge_of_everything() -> None:
    hearer = Hearer()
    one, other = socket.socketpair()
    ours = await Channel.open(one, {})
    line = PurgeLine(ours, "heard")
    tags = ["tag:" + "x" * 1000] * 100
    sent = 0
    while ours.backlog <= MAX_BACKLOG:
        await line.send(tags, 2, waits=False)
        sent += 1
    for _ in range(50):
        assert await line.send(["late"], 2) is False, "nothing is added to what waits"
    assert ours.backlog < MAX_BACKLOG + 2 * len("".join(tags))

    theirs = await Channel.open(other, {"heard": hearer})
    await eventually(lambda: not ours.is_backed_up)
    line.catch_up()
    assert await line.send(["after"], 3) is True or await line.send(["after"], 3) is True

    assert [tags for tags, _ in hearer.heard[:sent]] == [tags] * sent
    assert (["*"], 3) in hearer.heard
    assert all(tags != ["late"] for tags, _ in hearer.heard)
    assert hearer.heard[-1] == (["after"], 3)
    line.catch_up()
    await ours.close()
    await theirs.close()


async def test_who_goes_with_a_backlog_is_forgotten() -> None:
    one, other = socket.socketpair()
    ours = await Channel.open(one, {})
    line = PurgeLine(ours, "heard")
    while ours.backlog <= MAX_BACKLOG:
        await line.send(["x" * 100_000], 2, waits=False)
    other.close()
    await asyncio.wait_for(ours.closed(), WITHIN)

    async with asyncio.timeout(WITHIN):
        while not await line.send(["a"], 3):  # noqa: ASYNC110
            await asyncio.sleep(0)
    await ours.close()
