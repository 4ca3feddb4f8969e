"""The shares of the workers: together they are the whole."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.caching import CacheStoreConfig, WarmConfig
from proxy.config.model import Config, RouteConfig, UpstreamConfig
from proxy.config.policies import NamedBulkhead, RateLimitConfig, RedisConfig
from proxy.config.policy_types import Rate, StoreUrl
from proxy.config.types import UpstreamUrl
from proxy.workers.division import divide
from tests.support.policies import load_text

COUNTS = st.integers(1, 1_000_000)
WORKERS = st.integers(2, 64)


def config_with(
    *,
    bulkhead: NamedBulkhead | None = None,
    limits: tuple[RateLimitConfig, ...] = (),
    max_connections: int = 64,
    redis: RedisConfig | None = None,
) -> Config:
    upstream = UpstreamConfig(
        name="api", endpoints=(UpstreamUrl.parse("http://127.0.0.1:3000"),), max_connections=max_connections
    )
    route = RouteConfig(name="r", match=("GET /x",), upstream="api", bulkhead=bulkhead, rate_limit=limits)
    return Config(redis=redis, upstreams={"api": upstream}, routes=(route,), digest="d")


def shares(config: Config, workers: int) -> list[Config]:
    return [divide(config, workers, index) for index in range(workers)]


def bulkhead_of(config: Config) -> NamedBulkhead:
    bulkhead = config.routes[0].bulkhead
    assert bulkhead is not None
    return bulkhead


@given(WORKERS, COUNTS, st.integers(0, 1_000_000), COUNTS)
def test_permits_and_places_in_the_queue_add_up_to_the_whole(
    workers: int, concurrent: int, queued: int, least: int
) -> None:
    concurrent = max(concurrent, workers)  # fewer permits than workers are refused when the file is loaded
    least = min(max(least, workers), concurrent)
    bulkhead = NamedBulkhead(name="b", max_concurrent=concurrent, max_queued=queued, min_concurrent=least)
    parts = [bulkhead_of(share) for share in shares(config_with(bulkhead=bulkhead), workers)]

    assert sum(part.max_concurrent for part in parts) == concurrent
    assert sum(part.max_queued for part in parts) == queued
    assert sum(part.min_concurrent for part in parts) == least
    assert all(1 <= part.min_concurrent <= part.max_concurrent for part in parts)
    assert max(part.max_concurrent for part in parts) - min(part.max_concurrent for part in parts) <= 1


@given(WORKERS)
def test_memories_are_warmed_by_all_workers_together_at_the_rate_of_the_file(workers: int) -> None:
    cache = CacheStoreConfig(warm=WarmConfig(urls=("/a",), rate=Rate(30, 1.0)))
    config = config_with().model_copy(update={"cache": cache})

    rates = [share.cache.warm.rate for share in shares(config, workers) if share.cache.warm is not None]

    assert len(rates) == workers
    assert sum(rate.count / rate.period for rate in rates) == pytest.approx(30)
    assert shares(config_with(), workers)[0].cache == CacheStoreConfig()


def test_what_cannot_be_split_evenly_goes_to_the_first_workers() -> None:
    bulkhead = NamedBulkhead(name="b", max_concurrent=8, max_queued=1, min_concurrent=4)
    parts = [bulkhead_of(share) for share in shares(config_with(bulkhead=bulkhead), 3)]

    assert [part.max_concurrent for part in parts] == [3, 3, 2]
    assert [part.max_queued for part in parts] == [1, 0, 0]
    assert [part.min_concurrent for part in parts] == [2, 1, 1]


def test_connections_are_divided_and_nobody_is_left_without() -> None:
    parts = shares(config_with(max_connections=5), 2)
    assert [part.upstreams["api"].max_connections for part in parts] == [3, 2]
    assert [part.server.limits.max_connections for part in parts] == [2048, 2048]

    parts = shares(config_with(max_connections=1), 3)
    assert [part.upstreams["api"].max_connections for part in parts] == [1, 1, 1]


def test_rate_limits_stay_whole_for_their_state_takes_the_part() -> None:
    limit = RateLimitConfig(rate=Rate(10, 1.0), burst=6)
    config = config_with(limits=(limit,), redis=RedisConfig(url=StoreUrl.parse("redis://127.0.0.1:6379")))

    assert all(share.routes[0].rate_limit == (limit,) for share in shares(config, 4))


def test_everything_else_and_the_digest_stay(tmp_path: Path) -> None:
    config = load_text(tmp_path, Path("policies.yaml").read_text()).config
    share = divide(config, 2, 1)

    assert share.digest == config.digest
    assert share.profile == config.profile
    assert [route.timeout for route in share.routes] == [route.timeout for route in config.routes]
    assert share.server.model_copy(update={"limits": config.server.limits}) == config.server


def test_one_worker_has_the_whole() -> None:
    config = config_with()

    assert divide(config, 1, 0) is config
