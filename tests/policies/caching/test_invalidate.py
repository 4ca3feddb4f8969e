"""After which outcomes of a mutation what is purged, and who waits for it."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from proxy.config.caching import CacheConfig, InvalidateConfig
from proxy.config.model import RouteConfig
from proxy.config.policies import RetryConfig
from proxy.config.policy_types import Mode
from proxy.errors import (
    BreakerOpen,
    BulkheadFull,
    ClientDisconnected,
    ConnectionRefused,
    ConnectionTerminated,
    ContentTooLarge,
    DeadlineExceeded,
    ProxyError,
    ResponseIncomplete,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.caching.invalidate import Invalidate
from proxy.policies.caching.targets import Targets
from proxy.protocol.caching.keys import KeyMaker
from proxy.protocol.caching.stored import Validity
from proxy.routing import Router
from proxy.storage.generations import Generations
from proxy.storage.memory import Memory
from proxy.storage.purges import Purges
from proxy.telemetry.cache_instruments import CacheStoreMetrics
from tests.support.clock import ManualClock
from tests.support.exchange import ScriptedHandler, make_exchange
from tests.support.messages import HeadersLike, header_pairs, octets

pytestmark = [pytest.mark.usefixtures("leak_check")]

DETAILS = RouteConfig(name="details", match=("GET /properties/{id}",), upstream="api", cache=CacheConfig())
LIST = RouteConfig(name="list", match=("GET /properties",), upstream="api", cache=CacheConfig())
OTHER = RouteConfig(name="other", match=("* /*",), upstream="api")
TAGS = ("property:{id}", "properties:list:*")
SENT = 990.0


class Setting:
    """The layer around `inner`, with a memory of its own and the routes above."""

    def __init__(self, inner: Handler, *tags: str, mode: Mode = "enforce") -> None:
        self.generations = Generations()
        self.metrics = CacheStoreMetrics()
        self.clock = ManualClock()
        memory = Memory(1 << 20, 100, self.generations)
        self.purges = Purges(
            self.generations,
            memory,
            None,
            None,
            max_gap=10,
            wall=lambda: 1e9,
            random=lambda: 0.5,
            metrics=self.metrics,
        )
        self.makers = {name: KeyMaker(name, "api") for name in ("details", "list")}
        targets = Targets(self.makers)
        targets.bind(Router([(route, None) for route in (DETAILS, LIST, OTHER)]))
        config = InvalidateConfig(tags=tags) if tags else None
        self.layer = Invalidate(inner, config, self.purges, targets, mode=mode, clock=self.clock)

    def uri(self, path: str, query: str | None = None, authority: str = "api.test") -> str:
        maker = self.makers["list" if path == "/properties" else "details"]
        key: Any = maker.make(authority, "http", path, query, {})
        return f"uri={key.uri}"

    def purged(self, *tags: str) -> bool:
        """Whether all of these are invalid for what was filled before; none of them may be anything between."""
        found = {self.generations.validity([tag], 0)[0] for tag in tags}
        assert found in ({Validity.VALID}, {Validity.INVALID})
        return found == {Validity.INVALID}


def mutation(
    method: str = "PUT", target: str = "/properties/7", *, was_sent: bool = True, retry: RetryConfig | None = None
) -> Exchange:
    route = RouteConfig(name="update", match=("* /properties/{id}",), upstream="api", retry=retry)
    exchange = make_exchange(method, target, {"Host": "api.test"}, route=route)
    exchange.params = {"id": "7"}
    if was_sent:
        exchange.attempt, exchange.attempt_started, exchange.upstream_endpoint = 1, SENT, "127.0.0.1:3000"
    return exchange


def told(exchange: Exchange) -> list[tuple[str, str, str]]:
    return [(each.decision, each.mode, each.detail) for each in exchange.decisions or () if each.policy == "invalidate"]


def answering(status: int, headers: HeadersLike = ()) -> tuple[ScriptedHandler, Response, list[str]]:
    """A handler with one response, and that response's end."""
    closed: list[str] = []
    pairs = [(octets(name), octets(value)) for name, value in header_pairs(headers)]
    response = Response(status, pairs, b"x")
    response.on_close(lambda: closed.append("closed"))
    return ScriptedHandler(response), response, closed


# --- what happens after which response ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 207, 226, 299, 300, 301, 303, 307, 399])
async def test_success_purges_the_tags_and_the_own_uri_before_the_answer(status: int) -> None:
    inner, response, closed = answering(status)
    setting, exchange = Setting(inner, *TAGS), mutation()

    assert await setting.layer.handle(exchange) is response

    assert setting.purged("property:7", "properties:list", setting.uri("/properties/7"))
    assert told(exchange) == [("done", "enforce", "")]
    assert setting.metrics.purges == {("mutation", "done"): 1}
    assert closed == []


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 599, 600, 999])
async def test_failure_of_the_upstream_is_an_unknown_outcome(status: int) -> None:
    inner, response, _ = answering(status, {"Location": "/properties/9"})
    setting, exchange = Setting(inner, *TAGS), mutation()

    assert await setting.layer.handle(exchange) is response

    assert setting.purged("property:7", "properties:list", setting.uri("/properties/7"))
    assert not setting.purged(setting.uri("/properties/9")), "what a failure names is nobody's word"
    assert told(exchange) == [("unknown_outcome", "enforce", "")]
    assert setting.metrics.purges == {("unknown_outcome", "done"): 1}


@pytest.mark.parametrize("status", [101, 400, 401, 403, 404, 405, 409, 412, 422, 429, 499])
async def test_refusal_by_the_upstream_purges_nothing(status: int) -> None:
    inner, _, _ = answering(status)
    setting, exchange = Setting(inner, *TAGS), mutation()

    await setting.layer.handle(exchange)

    assert setting.generations.sequence == 0
    assert told(exchange) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
async def test_safe_method_purges_nothing(method: str) -> None:
    inner, _, _ = answering(200)
    setting = Setting(inner, *TAGS)

    await setting.layer.handle(mutation(method))

    assert setting.generations.sequence == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
async def test_every_other_method_is_a_mutation(method: str) -> None:
    inner, _, _ = answering(200)
    setting = Setting(inner)

    await setting.layer.handle(mutation(method))

    assert setting.purged(setting.uri("/properties/7"))


async def test_without_configured_tags_the_standard_is_followed_all_the_same() -> None:
    inner, _, _ = answering(201, {"Location": "/properties/8", "Content-Location": "http://api.test/properties/9?full"})
    setting, exchange = Setting(inner), mutation("POST", "/properties?x=1")

    await setting.layer.handle(exchange)

    assert setting.purged(
        setting.uri("/properties", "x=1"), setting.uri("/properties/8"), setting.uri("/properties/9", "full")
    )
    assert not setting.purged(setting.uri("/properties"))
    assert told(exchange) == [("done", "enforce", "")]


@pytest.mark.parametrize(
    "location", ["http://evil.test/properties/8", "https://api.test/properties/8", "//b.test/properties/8"]
)
async def test_location_of_another_origin_is_left_alone(location: str) -> None:
    inner, _, _ = answering(201, {"Location": location, "Content-Location": location})
    setting = Setting(inner)

    await setting.layer.handle(mutation())

    for authority in ("evil.test", "api.test", "b.test"):
        assert not setting.purged(
            setting.uri("/properties/8", authority=authority), setting.uri("/8", authority=authority)
        )
    assert setting.purged(setting.uri("/properties/7"))


async def test_target_that_no_cached_route_takes_is_not_worth_a_purge() -> None:
    inner, _, _ = answering(200)
    setting, exchange = Setting(inner), mutation("POST", "/orders/7")

    await setting.layer.handle(exchange)

    assert setting.generations.sequence == 0
    assert setting.metrics.purges == {}
    assert told(exchange) == []


async def test_all_of_one_mutation_is_one_purge() -> None:
    inner, _, _ = answering(200, {"Location": "/properties/7", "Content-Location": "/properties/7"})
    setting = Setting(inner, *TAGS)

    await setting.layer.handle(mutation())

    assert setting.generations.sequence == 1


async def test_parameter_cannot_name_another_tag() -> None:
    inner, _, _ = answering(200)
    setting, exchange = Setting(inner, "property:{id}"), mutation()
    exchange.params = {"id": "7:*"}

    await setting.layer.handle(exchange)

    assert not setting.purged("property:7", "property", "*")
    assert setting.purged("property:7%3A%2A")


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        UpstreamTimeout("first_byte"),
        UpstreamTimeout("total"),
        ConnectionTerminated(),
        ResponseIncomplete(),
        UpstreamProtocolError(),
        DeadlineExceeded(),
        ClientDisconnected(),
        ContentTooLarge(),
        ProxyError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_error_after_the_request_was_sent_is_an_unknown_outcome(error: ProxyError) -> None:
    setting, exchange = Setting(ScriptedHandler(error), *TAGS), mutation()

    with pytest.raises(type(error)):
        await setting.layer.handle(exchange)

    assert setting.purged("property:7", "properties:list", setting.uri("/properties/7"))
    assert told(exchange) == [("unknown_outcome", "enforce", "")]


def refused(error: ProxyError, *, endpoint: str = "127.0.0.1:3000", started: float = SENT, attempt: int = 1) -> Any:
    return pytest.param(error, endpoint, started, attempt, id=f"{type(error).__name__}-{started:g}-{attempt}")


@pytest.mark.parametrize(
    ("error", "endpoint", "started", "attempt"),
    [
        refused(ConnectionRefused(request_written=False)),
        refused(ConnectionTerminated(request_written=False)),
        refused(UpstreamTimeout("total", request_written=False)),
        refused(BreakerOpen(request_written=False), endpoint="", started=0, attempt=0),
        refused(BulkheadFull(request_written=False), endpoint="", started=0, attempt=0),
        refused(DeadlineExceeded(), endpoint="", started=0, attempt=0),
        # Who reads the body before an endpoint is chosen has sent nothing when the client fails.
        refused(ContentTooLarge(), endpoint=""),
        # A second round that is refused, after an attempt that never reached the upstream.
        refused(BreakerOpen(request_written=False), started=0),
        refused(BulkheadFull(request_written=False), started=0, attempt=2),
        refused(ConnectionRefused(request_written=False), attempt=3),
    ],
)
async def test_error_before_anything_was_sent_purges_nothing(
    error: ProxyError, endpoint: str, started: float, attempt: int
) -> None:
    retry = RetryConfig()  # repeats no PUT that was sent
    setting, exchange = Setting(ScriptedHandler(error), *TAGS), mutation(retry=retry)
    exchange.upstream_endpoint, exchange.attempt_started, exchange.attempt = endpoint, started, attempt

    with pytest.raises(type(error)):
        await setting.layer.handle(exchange)

    assert setting.generations.sequence == 0
    assert told(exchange) == []


@pytest.mark.parametrize(
    ("error", "started", "attempt", "is_unknown"),
    [
        (BreakerOpen(request_written=False), 0.0, 1, True),
        (ConnectionRefused(request_written=False), SENT, 2, True),
        (ConnectionRefused(request_written=False), SENT, 1, False),
    ],
)
async def test_attempt_before_the_last_may_have_done_it_where_mutations_are_repeated(
    error: ProxyError, started: float, attempt: int, is_unknown: bool
) -> None:
    setting = Setting(ScriptedHandler(error), *TAGS)
    exchange = mutation(retry=RetryConfig(methods=("PUT",)))
    exchange.attempt_started, exchange.attempt = started, attempt

    with pytest.raises(type(error)):
        await setting.layer.handle(exchange)

    assert setting.purged("property:7") == is_unknown


@pytest.mark.parametrize(("methods", "is_unknown"), [(("PUT",), True), (("GET",), False)])
async def test_refusal_of_a_repeated_mutation_says_nothing_of_the_first(methods: Any, is_unknown: bool) -> None:
    inner, _, _ = answering(409)
    setting, exchange = Setting(inner, *TAGS), mutation(retry=RetryConfig(methods=methods))
    exchange.attempt = 2

    await setting.layer.handle(exchange)

    assert setting.purged("property:7") == is_unknown


@pytest.mark.parametrize("was_sent", [True, False])
async def test_bug_is_an_unknown_outcome_once_the_request_was_sent(was_sent: bool) -> None:
    setting = Setting(ScriptedHandler(KeyError("a bug")), *TAGS)

    with pytest.raises(KeyError):
        await setting.layer.handle(mutation(was_sent=was_sent))
    await setting.purges.close()

    assert setting.purged("property:7") == was_sent


# --- clients that leave ---------------------------------------------------------------------------------------------


async def hang(_: Exchange) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("was_sent", [True, False])
async def test_client_that_leaves_while_the_upstream_works_leaves_nothing_outdated(was_sent: bool) -> None:
    setting, exchange = Setting(ScriptedHandler(hang), *TAGS), mutation(was_sent=was_sent)
    task = asyncio.ensure_future(setting.layer.handle(exchange))
    await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert setting.purged("property:7", "properties:list", setting.uri("/properties/7")) == was_sent
    await setting.purges.close()
    assert setting.metrics.purges == ({("unknown_outcome", "done"): 1} if was_sent else {})


class SlowNeighbour:
    """Another worker, told of a purge, that takes it when the test says so."""

    def __init__(self) -> None:
        self.told: list[tuple[tuple[str, ...], int]] = []
        self.heard = asyncio.Event()
        self._gate = asyncio.Event()

    async def __call__(self, tags: Sequence[str], validity: int) -> None:
        self.told.append((tuple(tags), validity))
        self.heard.set()
        await self._gate.wait()

    def take(self) -> None:
        self._gate.set()


async def test_answer_waits_for_those_who_are_told() -> None:
    inner, response, _ = answering(200)
    setting, neighbour = Setting(inner, *TAGS), SlowNeighbour()
    setting.purges.tell = neighbour
    task = asyncio.ensure_future(setting.layer.handle(mutation()))

    await neighbour.heard.wait()
    assert not task.done()
    assert setting.purged("property:7"), "here it is done before anybody is told"
    neighbour.take()

    assert await task is response
    assert neighbour.told == [(("property:7", "properties:list", setting.uri("/properties/7")), Validity.INVALID)]


async def test_neighbour_that_does_not_answer_is_waited_for_only_briefly() -> None:
    inner, response, _ = answering(200)
    setting, exchange = Setting(inner, *TAGS), mutation()
    setting.purges.tell = SlowNeighbour()

    assert await setting.layer.handle(exchange) is response

    assert told(exchange) == [("local", "enforce", "")]
    assert setting.metrics.purges == {("mutation", "local"): 1}


async def test_unknown_outcome_that_not_everybody_was_told_of_says_both() -> None:
    setting, exchange = Setting(ScriptedHandler(ConnectionTerminated()), *TAGS), mutation()
    setting.purges.tell = SlowNeighbour()

    with pytest.raises(ConnectionTerminated):
        await setting.layer.handle(exchange)

    assert told(exchange) == [("local", "enforce", "unknown_outcome")]


async def test_nobody_waits_beyond_the_deadline_and_the_purge_goes_on() -> None:
    inner, _, _ = answering(200)
    setting, neighbour, exchange = Setting(inner, *TAGS), SlowNeighbour(), mutation()
    setting.purges.tell = neighbour
    exchange.deadline = setting.clock.now - 1

    await setting.layer.handle(exchange)
    assert told(exchange) == [("local", "enforce", "")]
    assert setting.purged("property:7")

    neighbour.take()
    await setting.purges.close()
    assert setting.metrics.purges == {("mutation", "done"): 1}


async def test_client_that_leaves_while_others_are_told_ends_its_response_and_not_the_purge() -> None:
    inner, _, closed = answering(200)
    setting, neighbour = Setting(inner, *TAGS), SlowNeighbour()
    setting.purges.tell = neighbour
    task = asyncio.ensure_future(setting.layer.handle(mutation()))
    await neighbour.heard.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == ["closed"]

    neighbour.take()
    await setting.purges.close()
    assert setting.metrics.purges == {("mutation", "done"): 1}


async def test_bug_in_telling_others_does_not_fail_the_mutation(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(tags: Sequence[str], validity: int) -> None:
        raise KeyError("a bug")

    inner, response, _ = answering(200)
    setting, exchange = Setting(inner, *TAGS), mutation()
    setting.purges.tell = broken

    assert await setting.layer.handle(exchange) is response
    assert told(exchange) == [("local", "enforce", "")]
    assert "Bug" in caplog.text


@pytest.mark.parametrize("leaves_after", range(8))
async def test_wherever_a_client_leaves_what_may_have_changed_is_purged(leaves_after: int) -> None:
    async def act(exchange: Exchange) -> Response:
        for _ in range(3):
            await asyncio.sleep(0)
        exchange.attempt, exchange.attempt_started, exchange.upstream_endpoint = 1, SENT, "127.0.0.1:3000"
        await asyncio.sleep(0)
        return Response(200, [], b"")

    setting, exchange = Setting(ScriptedHandler(act), *TAGS), mutation(was_sent=False)
    task = asyncio.ensure_future(setting.layer.handle(exchange))
    for _ in range(leaves_after):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await setting.purges.close()

    assert setting.purged("property:7") == (exchange.attempt > 0)


# --- shadow ---------------------------------------------------------------------------------------------------------


async def test_shadow_reports_the_tags_and_does_what_the_standard_demands() -> None:
    inner, _, _ = answering(200)
    setting, exchange = Setting(inner, *TAGS, mode="shadow"), mutation()

    await setting.layer.handle(exchange)

    assert not setting.purged("property:7", "properties:list")
    assert setting.purged(setting.uri("/properties/7"))
    assert told(exchange) == [("done", "shadow", ""), ("done", "enforce", "")]


async def test_shadow_reports_unknown_outcomes_too() -> None:
    setting = Setting(ScriptedHandler(ConnectionTerminated()), *TAGS, mode="shadow")
    exchange = mutation("POST", "/orders/7")

    with pytest.raises(ConnectionTerminated):
        await setting.layer.handle(exchange)

    assert setting.generations.sequence == 0
    assert told(exchange) == [("unknown_outcome", "shadow", "")]


def test_it_says_what_it_purges() -> None:
    assert repr(Setting(ScriptedHandler(), *TAGS).layer) == (
        "<Invalidate ['property:{id}', 'properties:list'] enforces=True>"
    )
