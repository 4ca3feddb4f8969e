"""How many instances there are: counted in Redis, remembered without it."""

import contextlib

import pytest

from proxy.storage import instances
from proxy.storage.errors import StoreError
from proxy.storage.instances import EXPIRY, Instances
from proxy.storage.script import load_script
from tests.support.redis_client import Client, running_client
from tests.support.valkey import Valkey, free_port
from tests.support.waiting import eventually

LONG = 5.0


def registered(client: Client, name: str) -> Instances:
    """Another instance, which beats when the test says so."""
    return Instances(client.redis.run, client.redis.key("instances"), name.encode())


async def test_every_instance_is_counted(valkey: Valkey) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(running_client(valkey.url, timeout=LONG)) for _ in range(3)]

        assert [client.redis.instances.count for client in clients] == [1, 2, 3]
        await eventually(lambda: all(client.redis.instances.count == 3 for client in clients))
        assert clients[0].metrics.instances == 3


async def test_prefixes_count_for_themselves(valkey: Valkey) -> None:
    async with (
        running_client(valkey.url, timeout=LONG, prefix="one"),
        running_client(valkey.url, timeout=LONG, prefix="other") as other,
    ):
        assert other.redis.instances.count == 1


async def test_an_instance_that_stops_signs_off(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG):
        async with running_client(valkey.url, timeout=LONG):
            assert valkey.command("ZCARD", "tidegate:instances") == 2
        assert valkey.command("ZCARD", "tidegate:instances") == 1
    assert valkey.command("ZCARD", "tidegate:instances") == 0


async def test_an_instance_that_is_silent_is_forgotten(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG) as client:
        key, now = "tidegate:instances", int(valkey.command("TIME")[0]) * 1000
        valkey.command("ZADD", key, now - 11_000, "silent", now - 5_000, "quiet")
        one = registered(client, "one")
        await one.beat()

        assert set(valkey.command("ZRANGE", key, 0, -1)) == {b"one", b"quiet", client.redis.instances._name}
        assert one.count == 3


async def test_the_register_expires_when_nobody_beats(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG) as client:
        await registered(client, "one").beat()

        assert 0 < valkey.command("PTTL", "tidegate:instances") <= EXPIRY * 1000


async def test_who_called_before_the_clock_went_back_an_hour_counts_for_ten_seconds_more(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG) as client:
        key, now = "tidegate:instances", int(valkey.command("TIME")[0]) * 1000
        valkey.command("ZADD", key, now + 3_600_000, "from-the-future")
        one = registered(client, "one")
        await one.beat()

        assert one.count == 3
        assert float(valkey.command("ZSCORE", key, "from-the-future")) <= now + 2_000


async def test_the_count_outlives_a_loss_and_a_redis_that_comes_back_empty(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG) as client:
        one = registered(client, "one")
        await registered(client, "other").beat()
        await one.beat()
        assert one.count == 3

        valkey.kill()
        with pytest.raises(StoreError):
            await one.beat()
        assert one.count == 3

        valkey.restart()
        await eventually(lambda: client.redis.is_available)
        await one.beat()
        assert one.count == 3  # the others have not called yet


async def test_instances_that_have_gone_are_not_remembered_for_longer_than_ten_seconds(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG) as client:
        one, other = registered(client, "one"), registered(client, "other")
        await other.beat()
        await one.beat()
        assert one.count == 3
        await other.leave()

        for _ in range(int(EXPIRY / instances.INTERVAL)):
            await one.beat()
        assert one.count == 2


async def test_there_is_one_instance_where_redis_has_never_been() -> None:
    async with running_client(f"redis://127.0.0.1:{free_port()}", timeout=LONG) as client:
        assert client.redis.instances.count == 1
        await client.redis.instances.leave()


async def test_a_heartbeat_is_one_call(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG) as client:
        await registered(client, "one").beat()
        before = client.outcomes("instances")["ok"]
        await registered(client, "one").beat()

        assert client.outcomes("instances") == {"ok": before + 1}
        assert load_script("instances").name == "instances"
