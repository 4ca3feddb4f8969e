"""The cache's layers alone around a scripted upstream, with clocks and chance that go as the test says.

site = CacheLayer(reply({"Cache-Control": "max-age=60"}))
assert (await site.get()).status == 200
site.later(61)
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from itertools import count
from operator import or_
from time import monotonic
from typing import Any, Final

from proxy.config.caching import CacheConfig, InvalidateConfig
from proxy.config.model import RouteConfig
from proxy.config.policies import TimeoutConfig
from proxy.errors import ProxyError
from proxy.exchange import Body, Exchange, Handler, Response
from proxy.policies.caching.cache import Cache
from proxy.policies.caching.filling import Filling, rules_of
from proxy.policies.caching.fills import Fills
from proxy.policies.caching.invalidate import Invalidate
from proxy.policies.caching.shadow import ShadowCache
from proxy.policies.caching.store import CacheStore
from proxy.policies.caching.targets import Targets
from proxy.protocol.caching.keys import CacheKey, KeyMaker
from proxy.protocol.caching.stored import Validity
from proxy.protocol.caching.tags import route_tag, uri_tag
from proxy.protocol.dates import format_http_date
from proxy.protocol.fields import KINDS
from proxy.protocol.request_checks import CheckedFields
from proxy.resilience.refresh_budget import RefreshBudget
from proxy.routing import Router
from proxy.storage.generations import Generations
from proxy.storage.memory import Memory
from proxy.storage.purges import Purges
from proxy.telemetry.cache_instruments import CacheStoreMetrics, RouteCacheMetrics
from tests.support.cache_instance import CacheInstance
from tests.support.clock import ManualClock
from tests.support.exchange import Outcome, ScriptedHandler, make_exchange
from tests.support.messages import HeadersLike, header_pairs, octets
from tests.support.upstream_client import read_all

START: Final = 1_750_000_000.0
"""Where the wall clock of every layer begins."""
TOTAL: Final = 30.0
HOST: Final = "api.test"
TAGS: Final = ("property:{id}",)
FRESH: Final = {"Cache-Control": "max-age=60"}


class Answer:
    """What a client got: the whole response, read and closed."""

    def __init__(self, exchange: Exchange, response: Response, body: bytes) -> None:
        self.exchange = exchange
        self.status = response.status
        self.fields = response.headers
        self.body = body

    def field(self, name: str) -> str | None:
        """The only field of that name; None without one."""
        values = [value.decode() for key, value in self.fields if key.lower() == name.lower().encode()]
        assert len(values) < 2, f"{name}: {values}"
        return values[0] if values else None

    @property
    def said(self) -> str:
        """What Cache-Status says after the name of the cache."""
        return (self.field("Cache-Status") or "").partition(";")[2].strip()

    @property
    def decisions(self) -> list[tuple[str, str, str]]:
        return [(each.policy, each.decision, each.mode) for each in self.exchange.decisions or ()]

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.body!r} {self.field('Cache-Status')}>"


class Script(ScriptedHandler):
    """One whose outcomes can be changed."""

    def serve(self, *outcomes: Outcome) -> None:
        """Give these from now on, the last one for ever."""
        self._outcomes = [*(outcomes[:1] * len(self.exchanges)), *outcomes]


class CacheLayer:
    """Invalidate and Cache as the pipeline has them, around `outcomes`, the last of which is for ever.

    `draw` is what chance gives next. With `instance` there is Redis, too, and its wall clock is in force; that must be
    a ManualClock if time is to pass.
    """

    def __init__(
        self,
        *outcomes: Outcome,
        inner: Handler | None = None,
        invalidates: Sequence[str] = TAGS,
        keeps_good: bool = False,
        is_shadow: bool = False,
        instance: CacheInstance | None = None,
        max_bytes: int = 1 << 22,
        total: float | None = TOTAL,
        **cache: Any,
    ) -> None:
        self.wall: Any = ManualClock(START) if instance is None else instance.wall
        wall = self.wall
        self.clock = ManualClock() if instance is None else ManualClock(monotonic())
        self.draw = 0.5
        self.upstream = Script(*outcomes)
        self.config = CacheConfig.model_validate({"tags": TAGS, **cache})
        self.metrics = RouteCacheMetrics("test")
        self.store_metrics = CacheStoreMetrics()
        loop = asyncio.get_running_loop()
        self.generations = Generations() if instance is None else instance.generations
        memory = Memory(max_bytes, 1000, self.generations, wall=wall) if instance is None else instance.memory
        purges = instance.purges if instance is not None else self._purges(memory, wall)
        self.store = CacheStore(
            memory=memory,
            shadow=Memory(max_bytes, 1000, self.generations, wall=wall),
            generations=self.generations,
            shared=None if instance is None else instance.shared,
            purges=purges,
            fills=Fills(loop, self.clock, wall),
            refreshes=RefreshBudget(self.clock()),
            wall=wall,
            random=lambda: self.draw,
        )
        self.route = RouteConfig(
            name="test",
            match=("* /{id}",),
            upstream="api",
            cache=self.config,
            timeout=TimeoutConfig(total=total),
        )
        self.memory = self.store.shadow if is_shadow else memory
        handler = inner or self.upstream
        rules = rules_of(self.config)
        filling = Filling(handler, self.config, rules, self.store, self.memory, self.metrics, keeps_good)
        self.maker = KeyMaker("test", "api", self.config.query, self.config.ignore_query, None, self.config.tags)
        self.cache: Handler = (
            ShadowCache(filling, self.maker) if is_shadow else Cache(filling, self.maker, loop=loop, clock=self.clock)
        )
        targets = Targets({"test": self.maker})
        targets.bind(Router([(self.route, None)]))
        changes = InvalidateConfig(tags=tuple(invalidates)) if invalidates else None
        self.handler = Invalidate(self.cache, changes, purges, targets, mode="enforce", clock=self.clock)

    def _purges(self, memory: Memory, wall: Any) -> Purges:
        return Purges(
            self.generations,
            memory,
            None,
            None,
            max_gap=10.0,
            wall=wall,
            random=lambda: 0.5,
            metrics=self.store_metrics,
        )

    def serve(self, *outcomes: Outcome) -> None:
        """What the upstream answers from now on."""
        self.upstream.serve(*outcomes)

    # --- asking ---

    def exchange(self, method: str = "GET", target: str = "/r", headers: HeadersLike = (), **options: Any) -> Exchange:
        """One as the edge would make it now."""
        exchange = make_exchange(method, target, [("Host", HOST), *header_pairs(headers)], route=self.route, **options)
        fields = exchange.request.fields.raw
        exchange.request.fields = CheckedFields(fields, kinds=reduce(or_, [KINDS[name] for name, _ in fields]))
        exchange.params = {"id": exchange.request.path.removeprefix("/")}
        exchange.started = self.clock()
        exchange.wall_started = self.store.wall()
        if self.route.timeout.total is not None:
            exchange.deadline = exchange.started + self.route.timeout.total
        return exchange

    async def send(self, exchange: Exchange) -> Answer:
        """The whole answer, as a client reads it at once."""
        response = await self.handler.handle(exchange)
        try:
            return Answer(exchange, response, await read_all(response))
        finally:
            response.close()

    async def ask(self, method: str = "GET", target: str = "/r", headers: HeadersLike = (), **options: Any) -> Answer:
        return await self.send(self.exchange(method, target, headers, **options))

    async def get(self, target: str = "/r", **fields: str) -> Answer:
        """`cache_control="no-cache"` for a field of the request."""
        return await self.ask("GET", target, {name.replace("_", "-").title(): value for name, value in fields.items()})

    def asking(self, *args: Any, **options: Any) -> asyncio.Task[Answer]:
        """`ask` in a task of its own."""
        return asyncio.get_running_loop().create_task(self.ask(*args, **options))

    # --- what happens ---

    def later(self, seconds: float) -> None:
        self.wall.advance(seconds)
        self.clock.advance(seconds)

    def purge(self, tag: str, validity: Validity = Validity.INVALID) -> None:
        """As if another worker had said so."""
        self.store.purges.heard((tag,), validity)

    def key(self, target: str = "/r", user: bytes = b"") -> CacheKey:
        path, mark, query = target.partition("?")
        key = self.maker.make(HOST, "http", path, query if mark else None, {"id": path.removeprefix("/")}, user)
        assert isinstance(key, CacheKey)
        return key

    def uri(self, target: str = "/r") -> str:
        """The tag of one URL."""
        return uri_tag(self.key(target).uri)

    @property
    def route_tag(self) -> str:
        return route_tag("test")

    # --- what there is ---

    @property
    def fetches(self) -> int:
        """Requests that have reached the upstream."""
        return len(self.upstream.exchanges)

    def fetched(self, number: int = -1) -> dict[str, str]:
        """The fields of a request that has reached the upstream, names in lower case."""
        raw = self.upstream.exchanges[number].request.fields.raw
        return {name.decode().lower(): value.decode() for name, value in raw}

    @property
    def is_at_rest(self) -> bool:
        """Whether no fill is under way."""
        return len(self.store.fills) == 0

    async def settle(self) -> None:
        """Let everything run that can run now."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self) -> None:
        await self.store.close()


def reply(
    headers: HeadersLike = (), body: bytes | Body = b"", *, status: int = 200, date: float | None = None
) -> Outcome:
    """A response made anew for each request; with `date`, Unix seconds, it has a Date."""

    async def answer(exchange: Exchange) -> Response:
        fields = _octets(headers)
        if date is not None:
            fields.append((b"Date", format_http_date(date)))
        return Response(status, fields, body)

    return answer


def versions(headers: HeadersLike = (), *, status: int = 200) -> Outcome:
    """The body is the number of the answer."""
    numbers = count(1)

    async def answer(exchange: Exchange) -> Response:
        return Response(status, _octets(headers), b"%d" % next(numbers))

    return answer


def validated(first: HeadersLike, then: HeadersLike, body: bytes = b"body") -> Outcome:
    """A 200 with `first`, and a 304 with `then` for whoever names a validator."""

    async def answer(exchange: Exchange) -> Response:
        asked = {name.lower() for name, _ in exchange.request.fields.raw}
        if asked & {b"if-none-match", b"if-modified-since"}:
            return Response(304, _octets(then))
        return Response(200, _octets(first), body)

    return answer


def _octets(headers: HeadersLike) -> list[tuple[bytes, bytes]]:
    return [(octets(name), octets(value)) for name, value in header_pairs(headers)]


class Held:
    """An outcome that comes when the test says so."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self.reached = asyncio.Event()
        """Set once the upstream has been asked."""
        self.was_cancelled = False
        self._comes = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> Response:
        self.reached.set()
        try:
            await self._comes.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        outcome = self._outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, Response) else await outcome(exchange)

    def comes(self) -> None:
        self._comes.set()


async def ended(task: "asyncio.Task[Answer]") -> None:
    """Cancel a client, as the edge does when it leaves, and wait until it has gone."""
    task.cancel()
    with suppress(asyncio.CancelledError, ProxyError):
        await task
