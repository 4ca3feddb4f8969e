"""Messages between supervisor and worker, over a real socket pair."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Mapping

import pytest

from proxy.workers.channel import Channel, Handler, NoAnswer

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("leak_check")]

PATIENT = 10.0


@contextlib.asynccontextmanager
async def pair(handlers: Mapping[str, Handler]) -> AsyncIterator[tuple[Channel, Channel]]:
    """Who asks, and who has these handlers."""
    one, other = socket.socketpair()
    asking, answering = await Channel.open(one, {}), await Channel.open(other, handlers)
    try:
        yield asking, answering
    finally:
        await asking.close()
        await answering.close()


async def double(number: int) -> int:
    return number * 2


async def test_requests_are_answered_by_functions_and_coroutines() -> None:
    async with pair({"double": double, "name": lambda: "worker"}) as (asking, _):
        assert await asking.ask("double", PATIENT, number=4) == 8
        assert await asking.ask("name", PATIENT) == "worker"


async def test_answers_find_their_request_in_any_order() -> None:
    gates = [asyncio.Event() for _ in range(3)]

    async def wait(number: int) -> int:
        await gates[number].wait()
        return number

    async with pair({"wait": wait}) as (asking, _):
        asked = [asyncio.ensure_future(asking.ask("wait", PATIENT, number=number)) for number in range(3)]
        for number in (2, 0, 1):
            gates[number].set()
            assert await asked[number] == number


async def test_notices_arrive_in_order_and_before_a_later_answer() -> None:
    heard: list[int] = []
    async with pair({"note": lambda number: heard.append(number), "sync": lambda: None}) as (asking, _):
        for number in range(100):
            asking.tell("note", number=number)
        await asking.ask("sync", PATIENT)

    assert heard == list(range(100))


async def test_large_message_arrives_whole() -> None:
    async with pair({"length": len_of}) as (asking, _):
        assert await asking.ask("length", PATIENT, text="x" * 5_000_000) == 5_000_000


async def len_of(text: str) -> int:
    return len(text)


async def test_request_without_an_answer_ends_in_time() -> None:
    async with pair({"hang": hang}) as (asking, _):
        with pytest.raises(NoAnswer, match="in time"):
            await asking.ask("hang", 0.01)


async def hang() -> None:
    await asyncio.Event().wait()


async def test_answer_that_comes_too_late_is_dropped() -> None:
    gate = asyncio.Event()

    async with pair({"wait": gate.wait, "name": lambda: "worker"}) as (asking, _):
        with pytest.raises(NoAnswer):
            await asking.ask("wait", 0.01)
        gate.set()
        assert await asking.ask("name", PATIENT) == "worker"


async def test_pending_request_ends_when_the_other_side_goes() -> None:
    async with pair({"hang": hang}) as (asking, answering):
        asked = asyncio.ensure_future(asking.ask("hang", PATIENT))
        await asyncio.sleep(0)
        await answering.close()
        with pytest.raises(NoAnswer, match="gone"):
            await asked
        await asking.closed()
        with pytest.raises(NoAnswer, match="gone"):
            await asking.ask("hang", PATIENT)
        asking.tell("anything")


@pytest.mark.parametrize("what", ["unknown", "plain", "later"])
async def test_failure_of_a_handler_is_an_answer_and_the_channel_lives(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    def plain() -> None:
        raise LookupError("not today")

    async def later() -> None:
        raise LookupError("not today")

    async with pair({"plain": plain, "later": later, "name": lambda: "worker"}) as (asking, _):
        with pytest.raises(NoAnswer, match=r"unknown|not today"):
            await asking.ask(what, PATIENT)
        asking.tell(what)
        assert await asking.ask("name", PATIENT) == "worker"

    assert {record.levelno for record in caplog.records} == {logging.ERROR}


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff\xffx", (4).to_bytes(4) + b"{no}", (2).to_bytes(4) + b"[]", (12).to_bytes(4) + b'{"answer":1}'],
)
async def test_nonsense_ends_the_channel_or_is_ignored(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    one, other = socket.socketpair()
    channel = await Channel.open(one, {})
    with other:
        other.sendall(data)
        other.shutdown(socket.SHUT_WR)
        await channel.closed()
    await channel.close()

    assert ("makes no sense" in caplog.text) == (b"answer" not in data)


async def test_channel_knows_that_nobody_reads() -> None:
    one, other = socket.socketpair()
    channel = await Channel.open(one, {})
    assert not channel.is_backed_up
    for _ in range(100):
        channel.tell("note", text="x" * 100_000)
    assert channel.is_backed_up
    with other:
        await channel.close()  # within a moment, although nobody takes it
