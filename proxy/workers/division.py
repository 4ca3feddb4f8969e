"""The share of one worker in the limits that hold for the whole of Tidegate.

Connections, permits and places in a queue are split so that the shares add up to the whole; the first workers get what
cannot be split evenly. Each worker has at least one of what it cannot do without.
"""

from typing import TypeVar

from proxy.config.caching import CacheStoreConfig
from proxy.config.model import Config, RouteConfig, ServerConfig, UpstreamConfig
from proxy.config.policies import BulkheadConfig
from proxy.config.policy_types import Rate

B = TypeVar("B", bound=BulkheadConfig)


def divide(config: Config, workers: int, index: int) -> Config:
    """What worker `index` (from 0) of `workers` goes by; the digest stays that of the whole."""
    if workers == 1:
        return config
    share = _Share(workers, index)
    return config.model_copy(
        update={
            "server": share.server(config.server),
            "cache": share.cache(config.cache),
            "upstreams": {name: share.upstream(upstream) for name, upstream in config.upstreams.items()},
            "routes": tuple(map(share.route, config.routes)),
        }
    )


class _Share:
    def __init__(self, workers: int, index: int) -> None:
        self._workers = workers
        self._index = index

    def of(self, whole: int, least: int = 1) -> int:
        """This worker's part of `whole`."""
        return max(least, whole // self._workers + (self._index < whole % self._workers))

    def server(self, server: ServerConfig) -> ServerConfig:
        limits = server.limits
        divided = limits.model_copy(update={"max_connections": self.of(limits.max_connections)})
        return server.model_copy(update={"limits": divided})

    def cache(self, cache: CacheStoreConfig) -> CacheStoreConfig:
        """Each worker fetches everything to warm its memory, and all together at the rate of the file."""
        if cache.warm is None:
            return cache
        rate = cache.warm.rate
        divided = cache.warm.model_copy(update={"rate": Rate(rate.count, rate.period * self._workers)})
        return cache.model_copy(update={"warm": divided})

    def upstream(self, upstream: UpstreamConfig) -> UpstreamConfig:
        return upstream.model_copy(update={"max_connections": self.of(upstream.max_connections)})

    def route(self, route: RouteConfig) -> RouteConfig:
        if route.bulkhead is None:
            return route
        return route.model_copy(update={"bulkhead": self.bulkhead(route.bulkhead)})

    def bulkhead(self, bulkhead: B) -> B:
        return bulkhead.model_copy(
            update={
                "max_concurrent": self.of(bulkhead.max_concurrent),
                "min_concurrent": self.of(bulkhead.min_concurrent),
                "max_queued": self.of(bulkhead.max_queued, least=0),
            }
        )
