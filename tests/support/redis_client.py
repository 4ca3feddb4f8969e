"""The client under test: made, started and closed, with what it counted."""

import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from proxy.config.policies import RedisConfig
from proxy.config.policy_types import StoreUrl
from proxy.storage.redis import Redis, Script
from proxy.telemetry.instruments import RedisMetrics

ECHO = Script("echo", "return {KEYS[1], ARGV[1]}")
GET = Script("get", "return redis.call('GET', KEYS[1])", reads_only=True)
SET = Script("set", "return redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)")


class Client:
    """A started `redis` and its `metrics`."""

    def __init__(self, redis: Redis, metrics: RedisMetrics) -> None:
        self.redis = redis
        self.metrics = metrics

    def outcomes(self, operation: str) -> dict[str, int]:
        """How the calls of one script have ended."""
        return {outcome: count for (each, outcome), count in self.metrics.commands.items() if each == operation}


@contextlib.asynccontextmanager
async def running_client(
    url: str, *, clock: Callable[[], float] = time.monotonic, **options: Any
) -> AsyncIterator[Client]:
    """A client of the server at `url`; `options` are those of the section `redis`."""
    metrics = RedisMetrics()
    config = RedisConfig(url=StoreUrl.parse(url), **options)
    redis = Redis(config, clock=clock, random=random.random, metrics=metrics)
    await redis.start()
    try:
        yield Client(redis, metrics)
    finally:
        await redis.close()
