"""Runtime: everything that one configuration stands for. A reload builds a new one and swaps a single reference."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from proxy.config.model import Config, RouteConfig
from proxy.exchange import Handler
from proxy.outbox import Outbox
from proxy.pipeline import AboutItself, Clock, Observers, Refuse, build_bare, build_handler
from proxy.protocol.forwarded import ClientAddress
from proxy.routing import Router
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import UNMATCHED
from proxy.telemetry.registry import Metrics
from proxy.upstream.client import Upstream

UNMATCHED_ROUTE = RouteConfig(name=UNMATCHED, match=(), upstream="")


@dataclass(frozen=True, slots=True)
class Resources:
    """What outlives every configuration."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    random: Random
    metrics: Metrics
    outbox: Outbox


@dataclass(frozen=True, slots=True)
class Runtime:
    """An immutable snapshot; each exchange sees exactly one."""

    config: Config
    router: Router[Handler]
    unmatched: Handler
    """Answers what has no route, or not even a valid head."""
    about_itself: Handler
    """Answers `OPTIONS *`."""
    upstreams: Mapping[str, Upstream]
    clients: ClientAddress
    hosts: frozenset[str]
    max_head: int
    access_log: AccessLog

    @classmethod
    def build(
        cls, config: Config, resources: Resources, access_log: AccessLog, previous: "Runtime | None" = None
    ) -> "Runtime":
        """Compile `config`. Upstreams that did not change are taken over with their connections and their health."""
        upstreams = _upstreams(config, resources, previous)
        handlers = [
            (
                route,
                build_handler(route, upstreams[route.upstream], _observers(route.name, config, resources, access_log)),
            )
            for route in config.routes
        ]
        unmatched = _observers(UNMATCHED, config, resources, access_log)
        return cls(
            config=config,
            router=Router(handlers),
            unmatched=build_bare(Refuse(), unmatched),
            about_itself=build_bare(AboutItself(), unmatched),
            upstreams=upstreams,
            clients=ClientAddress(config.server.trusted_proxies),
            hosts=frozenset(config.server.hosts),
            max_head=config.server.limits.max_head,
            access_log=access_log,
        )

    def start(self) -> None:
        """Start the health checks of the upstreams that are new."""
        for upstream in self.upstreams.values():
            upstream.start()

    async def close(self, successor: "Runtime | None" = None) -> None:
        """Let go of the upstreams that the successor did not take over; exchanges under way end as they are."""
        kept = set() if successor is None else set(map(id, successor.upstreams.values()))
        await asyncio.gather(*(u.close() for u in self.upstreams.values() if id(u) not in kept))


def _upstreams(config: Config, resources: Resources, previous: Runtime | None) -> dict[str, Upstream]:
    upstreams = {}
    for name, upstream in config.upstreams.items():
        if previous is not None and previous.config.upstreams.get(name) == upstream:
            upstreams[name] = previous.upstreams[name]
        else:
            upstreams[name] = Upstream(
                upstream,
                loop=resources.loop,
                observer=resources.metrics.upstream(name),
                random=resources.random,
                outbox=resources.outbox,
            )
    return upstreams


def _observers(name: str, config: Config, resources: Resources, access_log: AccessLog) -> Observers:
    return Observers(resources.metrics.route(name), access_log, config.server.slow_request, resources.clock)
