"""The phases of the cache experiment, one after the other."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import orjson

from bench.cache_mix_client import Client
from bench.cache_mix_load import Load
from bench.cache_mix_site import Site
from bench.cache_mix_tally import Tally
from bench.cache_mix_truth import revision_in
from bench.cache_mix_workload import Ask, detail, list_with
from bench.compare import say

_POLL = 0.002
"""Seconds between two looks at whether a write has got through."""
_GIVE_UP = 15.0
"""Seconds after which it has not."""
_DELAY = 0.5
"""Seconds that the upstream takes for what 1,000 want at the same time: they shall all come before it has answered."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done: seconds of the phases, and numbers."""

    without: float = 8.0
    warm_up: float = 65.0
    """More than the upstream's longest max-age but one: after it, as much ends as begins."""
    steady: float = 40.0
    down: float = 3.0
    after: float = 12.0
    writes: int = 200
    misses: int = 1000
    rounds: int = 3
    """How often so many miss at the same time."""


@dataclass(slots=True)
class Spread:
    """How soon the writes were seen."""

    tally: Tally
    writes: int = 0
    seconds: list[float] = field(default_factory=list)
    """From a write's answer to the first read of its property, then of a list, that shows it on another instance."""
    unseen: int = 0
    """Reads through the instance of the write, at once after it, that did not show it."""
    never: int = 0
    """Those that nobody had seen when we gave up."""


@dataclass(frozen=True, slots=True)
class Stampede:
    """So many asked for the same at the same time."""

    asked: int
    answered: int
    hits: int
    """At the upstream."""
    bodies: int
    """How many different ones there were."""
    seconds: float


async def mix(site: Site, load: Load, name: str, seconds: float) -> Tally:
    """The load goes on for so long."""
    load.tally = tally = Tally(name)
    before, start = await site.counts(), monotonic()
    await asyncio.sleep(seconds)
    tally.upstream = (await site.counts()).since(before)
    tally.seconds = monotonic() - start
    say(
        f"{name}: {tally.requests} requests in {tally.seconds:.1f} s, {tally.hit_ratio():.1%} of reads from the cache,"
        f" {tally.asked_of_upstream:.3f} upstream requests and {tally.queried:.3f} queries each, {tally.errors} errors"
    )
    for example in tally.examples:
        say(f"    {example}")
    return tally


async def outage(site: Site, load: Load, effort: Effort) -> tuple[Tally, Tally]:
    """Redis is killed and started again while the load goes on."""
    site.kill_redis()
    away = await mix(site, load, "Redis killed", effort.down)
    site.start_redis()
    return away, await mix(site, load, "Redis back, empty", effort.after)


async def read_own_writes(site: Site, load: Load, effort: Effort) -> Spread:
    """Writes, each of them read at once where it was made, and elsewhere until it is seen there."""
    load.tally = tally = Tally("writes, read at once")
    before, start = await site.counts(), monotonic()
    spread = Spread(tally)
    writers = [asyncio.ensure_future(_Writer(load, spread, first).run(effort)) for first in range(len(site.ports))]
    try:
        await asyncio.gather(*writers)
    finally:
        for writer in writers:
            writer.cancel()
    tally.upstream = (await site.counts()).since(before)
    tally.seconds = monotonic() - start
    say(
        f"{spread.writes} writes: {spread.unseen} reads did not show them where they were made; elsewhere they were"
        f" seen within {max(spread.seconds, default=0):.3f} s, {spread.never} never"
    )
    for example in tally.examples:
        say(f"    {example}")
    return spread


class _Writer:
    """Writes through one sidecar and reads through all."""

    def __init__(self, load: Load, spread: Spread, instance: int) -> None:
        self._load = load
        self._spread = spread
        self._instance = instance
        self._clients = [Client(port) for port in load.ports]

    async def run(self, effort: Effort) -> None:
        """As many writes as are due to one of the sidecars."""
        try:
            for _ in range(effort.writes // len(self._clients)):
                await self._write()
        finally:
            for client in self._clients:
                client.close()

    async def _write(self) -> None:
        number = self._load.mix.draw_property()
        for instance in range(len(self._clients)):  # now all of them have it
            await self._reads(number, instance)
        ask = Ask("write", "PATCH", detail(number), number)
        revision = self._load.truth.revisions + 1
        answer = await self._load.carry_out(ask, self._clients[self._instance], self._instance)
        if answer is None or answer.status != 200:
            return
        self._spread.writes += 1
        self._spread.unseen += sum(seen < revision for seen in await self._reads(number, self._instance))
        others = [instance for instance in range(len(self._clients)) if instance != self._instance]
        await asyncio.gather(*[self._watch(number, revision, instance, answer.answered) for instance in others])

    async def _watch(self, number: int, revision: int, instance: int, since: float) -> None:
        while True:
            asked = monotonic()
            if min(await self._reads(number, instance)) >= revision:
                self._spread.seconds.append(asked - since)
                return
            if asked - since > _GIVE_UP:
                self._spread.never += 1
                return
            await asyncio.sleep(_POLL)

    async def _reads(self, number: int, instance: int) -> list[int]:
        """The revisions that the property and a list with it show."""
        client, found = self._clients[instance], []
        for ask in (Ask("detail", "GET", detail(number), number), Ask("list", "GET", list_with(number), number)):
            answer = await self._load.carry_out(ask, client, instance)
            if answer is None or answer.status != 200:
                continue
            content = orjson.loads(answer.body)
            items = content.get("items", [content])
            found += [revision_in(item["description"]) for item in items if item["id"] == number]
        return found or [0]


async def stampede(site: Site, target: str, effort: Effort) -> Stampede:
    """All at once want what nobody has wanted before, through all sidecars, each on a connection of its own."""
    rule = orjson.dumps({"fault": f"delay={_DELAY * 1000:.0f}ms", "path": target})
    await site.ask_upstream(Ask("write", "POST", "/admin/faults", body=rule))
    clients = [Client(port) for _ in range(effort.misses // len(site.ports) + 1) for port in site.ports][
        : effort.misses
    ]
    try:
        await _connect(clients)
        before, start = await site.counts(), monotonic()
        answers = await asyncio.gather(*[client.ask(Ask("detail", "GET", target)) for client in clients])
        seconds = monotonic() - start
    finally:
        for client in clients:
            client.close()
    good = [answer for answer in answers if answer.status == 200]
    bodies = len({answer.body for answer in good})
    result = Stampede(len(answers), len(good), (await site.counts()).since(before).requests, bodies, seconds)
    say(f"{result.asked} at the same time for {target}: {result.hits} at the upstream, {result.answered} answered")
    return result


async def _connect(clients: Sequence[Client]) -> None:
    for first in range(0, len(clients), 50):
        await asyncio.gather(*[client.connect() for client in clients[first : first + 50]])
