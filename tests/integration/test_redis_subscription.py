"""Pub/sub through kills, restarts, silence and bursts: no message is lost without word of a gap."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.storage.errors import StoreError
from proxy.storage.redis import Redis
from proxy.storage.subscription import Gap, Message, Subscription
from tests.support.redis_client import Client, running_client
from tests.support.tcp_faults import FaultProxy
from tests.support.valkey import Valkey
from tests.support.waiting import WITHIN, eventually

LONG = 5.0
SUBSCRIBED = Gap("subscribed")


def subscription(redis: Redis, *channels: bytes, ping_after: float = LONG, limit: int = 1000) -> Subscription:
    made = redis.subscribe(*channels)
    made._ping_after, made._limit = ping_after, limit
    return made


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[Client]:
    async with running_client(valkey.url, timeout=LONG) as client:
        yield client


@pytest.fixture
async def news(client: Client) -> AsyncIterator[Subscription]:
    """Subscribed to two channels; the first gap has been taken."""
    made = subscription(client.redis, b"news", b"more")
    made.start()
    assert await soon(made) == SUBSCRIBED
    yield made
    await made.close()


async def soon(subscription: Subscription) -> Message | Gap:
    async with asyncio.timeout(WITHIN):
        return await subscription.next()


@pytest.mark.both_loops
async def test_messages_arrive_in_order(valkey: Valkey, news: Subscription) -> None:
    for number in range(3):
        valkey.command("PUBLISH", "news", number)
    valkey.command("PUBLISH", "others", "not for us")
    valkey.command("PUBLISH", "more", b"\xff\x00")

    assert [await soon(news) for _ in range(4)] == [
        Message(b"news", b"0"),
        Message(b"news", b"1"),
        Message(b"news", b"2"),
        Message(b"more", b"\xff\x00"),
    ]


async def test_a_restart_is_a_gap_and_then_messages_arrive_again(valkey: Valkey, news: Subscription) -> None:
    valkey.kill()
    await eventually(lambda: not news.is_live)
    valkey.restart()

    assert await soon(news) == SUBSCRIBED
    assert news.is_live
    valkey.command("PUBLISH", "news", "again")
    assert await soon(news) == Message(b"news", b"again")


async def test_every_interruption_is_a_gap(valkey: Valkey, news: Subscription) -> None:
    for number in range(5):
        valkey.drop_clients()
        assert await soon(news) == SUBSCRIBED
        valkey.command("PUBLISH", "news", number)
        assert await soon(news) == Message(b"news", b"%d" % number)


async def test_what_waited_before_a_gap_does_not_matter_any_more(valkey: Valkey, news: Subscription) -> None:
    valkey.command("PUBLISH", "news", "old")
    await eventually(lambda: len(news._items) == 1)
    valkey.drop_clients()
    await eventually(lambda: list(news._items) == [SUBSCRIBED])

    assert await soon(news) == SUBSCRIBED


async def test_silence_is_no_interruption_while_the_server_answers_pings(client: Client) -> None:
    quiet = subscription(client.redis, b"quiet", ping_after=0.02)
    quiet.start()
    assert await soon(quiet) == SUBSCRIBED
    await asyncio.sleep(0.5)

    assert quiet.is_live
    assert not quiet._items
    await quiet.close()


async def test_a_server_that_says_nothing_at_all_is_left_and_found_again(valkey: Valkey) -> None:
    async with (
        FaultProxy(valkey.port) as faults,
        running_client(f"redis://127.0.0.1:{faults.port}", timeout=0.2) as client,
    ):
        news = subscription(client.redis, b"news", ping_after=0.1)
        news.start()
        assert await soon(news) == SUBSCRIBED
        faults.downstream.stall()
        await eventually(lambda: not news.is_live)
        faults.downstream.flow()

        assert await soon(news) == SUBSCRIBED
        await news.close()


async def test_a_slow_consumer_is_told_of_what_it_has_missed(valkey: Valkey, client: Client) -> None:
    slow = subscription(client.redis, b"news", limit=10)
    slow.start()
    assert await soon(slow) == SUBSCRIBED
    with valkey.client() as publisher:
        for number in range(25):
            publisher.publish("news", number)
    await eventually(lambda: bool(slow._items) and slow._items[-1] == Message(b"news", b"24"))

    assert len(slow._items) <= 10
    assert await soon(slow) == Gap("overflow")
    await slow.close()


async def test_a_burst_takes_bounded_memory_and_leaves_the_others_their_turn(valkey: Valkey, client: Client) -> None:
    burst = subscription(client.redis, b"news", limit=1000)
    burst.start()
    assert await soon(burst) == SUBSCRIBED
    turns = largest = 0

    async def others() -> None:
        nonlocal turns, largest
        while True:
            turns += 1
            largest = max(largest, len(burst._items))
            await asyncio.sleep(0.001)

    task = asyncio.create_task(others())
    publish = "for i = 1, 100000 do redis.call('PUBLISH', 'news', i) end"
    await asyncio.to_thread(valkey.command, "EVAL", publish, 0)
    await eventually(lambda: bool(burst._items) and burst._items[-1] == Message(b"news", b"100000"), within=4 * WITHIN)
    task.cancel()

    assert largest <= 1000
    assert turns > 100
    await burst.close()


async def test_it_begins_as_soon_as_there_is_a_server(valkey: Valkey) -> None:
    valkey.kill()
    async with running_client(valkey.url) as client:
        early = subscription(client.redis, b"news")
        early.start()
        await asyncio.sleep(0.3)
        assert not early.is_live
        valkey.restart()

        assert await soon(early) == SUBSCRIBED
        await early.close()


async def test_attempts_slow_down_while_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) >= 20:
            enough.set()
            await asyncio.Event().wait()

    def make() -> None:
        raise StoreError("unavailable")

    monkeypatch.setattr("proxy.storage.subscription.asyncio.sleep", sleep)
    never = Subscription(make, [b"news"], timeout=LONG, random=lambda: 1.0)  # type: ignore[arg-type]
    never.start()
    await enough.wait()
    await never.close()

    assert waits[:3] == [0.2, 0.4, 0.8]
    assert set(waits[3:]) == {1.0}


async def test_a_bug_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def make() -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("a bug")

    broken = Subscription(make, [b"news"], timeout=LONG, random=lambda: 0.0)  # type: ignore[arg-type]
    broken.start()
    await eventually(lambda: calls >= 2)
    await broken.close()

    assert {record.getMessage() for record in caplog.records} == {"Bug: a subscription starts anew"}


async def test_a_subscription_that_was_not_started_can_be_closed(client: Client) -> None:
    await subscription(client.redis, b"news").close()
