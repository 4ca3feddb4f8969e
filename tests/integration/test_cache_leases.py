"""One instance fetches what several miss: the others wait for as long as it is heard of, and no longer."""

from collections.abc import AsyncIterator

import pytest

from proxy.policies.caching import errand
from proxy.storage import leases
from tests.support.cache_instance import cache_instance
from tests.support.cache_layer import FRESH, CacheLayer, Held, reply
from tests.support.valkey import Valkey
from tests.support.waiting import eventually


@pytest.fixture
async def one(valkey: Valkey) -> AsyncIterator[CacheLayer]:
    async with cache_instance(valkey.url) as instance:
        yield CacheLayer(reply(FRESH, b"one"), instance=instance, total=None)


@pytest.fixture
async def two(valkey: Valkey) -> AsyncIterator[CacheLayer]:
    async with cache_instance(valkey.url) as instance:
        yield CacheLayer(reply(FRESH, b"two"), instance=instance, total=None)


def lease_of(layer: CacheLayer) -> bytes:
    assert layer.store.shared is not None
    return layer.store.shared.keys.lease(layer.key().digest)


def is_awaited(valkey: Valkey, layer: CacheLayer) -> bool:
    return bytes(valkey.command("GET", lease_of(layer)) or b"").endswith(b"w")


async def test_a_fetch_that_takes_longer_than_a_lease_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, valkey: Valkey, one: CacheLayer, two: CacheLayer
) -> None:
    monkeypatch.setattr(errand, "LEASE", 1.0)
    monkeypatch.setattr(leases, "_RENEWALS", 40)
    slow = Held(reply(FRESH, b"one"))
    one.serve(slow)
    first = one.asking()
    await slow.reached.wait()
    second = two.asking()
    await eventually(lambda: is_awaited(valkey, two))
    await eventually(lambda: valkey.command_calls("pexpire") > 50)  # more than a second's
    slow.comes()

    assert [(await each).body for each in (first, second)] == [b"one"] * 2
    assert two.fetches == 0


async def test_a_holder_that_is_heard_of_no_more_is_not_waited_for(valkey: Valkey, two: CacheLayer) -> None:
    valkey.command("SET", lease_of(two), b"0" * 16, "PX", 200)

    assert (await two.get()).body == b"two"


async def test_what_was_waited_for_is_looked_up_even_if_no_time_for_redis_was_left(
    valkey: Valkey, one: CacheLayer, two: CacheLayer
) -> None:
    slow = Held(reply(FRESH, b"one"))
    one.serve(slow)
    first = one.asking()
    await slow.reached.wait()
    second = two.asking()
    await eventually(lambda: is_awaited(valkey, two))
    (fill,) = two.store.fills._running
    fill.exchange.store_seconds = 60.0
    slow.comes()

    assert [(await each).body for each in (first, second)] == [b"one"] * 2
    assert two.fetches == 0


async def test_a_response_that_is_not_stored_keeps_nobody_waiting(
    valkey: Valkey, one: CacheLayer, two: CacheLayer
) -> None:
    one.serve(reply({"Cache-Control": "no-store"}, b"one"))
    await one.get()

    await eventually(lambda: not valkey.command("EXISTS", lease_of(one)))
    assert (await two.get()).body == b"two"
