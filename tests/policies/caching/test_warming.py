"""What is fetched to warm a cache, how fast, and what is said about it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.config.addresses import UpstreamUrl
from proxy.config.caching import CacheConfig, WarmConfig
from proxy.config.model import RouteConfig, UpstreamConfig
from proxy.config.policies import TimeoutConfig
from proxy.config.policy_types import ClientKey, Rate
from proxy.errors import ConnectionRefused, ResponseIncomplete
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.caching.internal import InternalRequests
from proxy.policies.caching.targets import Targets
from proxy.policies.caching.warming import HOLDS_READINESS, MAX_LIST, Warmer, WarmProgress
from proxy.protocol.caching.keys import KeyMaker
from proxy.routing import Router
from proxy.telemetry.cache_instruments import CacheStoreMetrics
from tests.support.clock import ManualClock
from tests.support.exchange import PiecewiseBody

pytestmark = [pytest.mark.usefixtures("leak_check")]

UPSTREAMS = {
    name: UpstreamConfig(name=name, endpoints=(UpstreamUrl("http", name, 3000), UpstreamUrl("http", "second", 80)))
    for name in ("api", "other")
}
CACHE = CacheConfig()
ROUTES = (
    RouteConfig(name="details", match=("GET /properties/{id}",), upstream="api", cache=CACHE),
    RouteConfig(name="search", match=("GET /search",), upstream="api", cache=CacheConfig(query=("q",))),
    RouteConfig(name="mine", match=("GET /mine",), upstream="api", cache=CacheConfig(per_user=(ClientKey("api_key"),))),
    RouteConfig(name="foreign", match=("GET /foreign/{id}",), upstream="other", cache=CACHE),
    RouteConfig(name="list", match=("GET /properties",), upstream="api", timeout=TimeoutConfig(total=None)),
    RouteConfig(name="rest", match=("* /*",), upstream="api"),
)
Act = Callable[[Exchange], Awaitable[Response]]


async def ok(_: Exchange) -> Response:
    return Response(200, [], b"body")


class Upstream:
    """Answers by path; notes what it was asked."""

    def __init__(self) -> None:
        self.acts: dict[str, Act] = {}
        self.exchanges: list[Exchange] = []

    async def handle(self, exchange: Exchange) -> Response:
        self.exchanges.append(exchange)
        return await self.acts.get(exchange.request.path, ok)(exchange)

    def lists(self, body: bytes, status: int = 200, path: str = "/properties") -> None:
        async def act(_: Exchange) -> Response:
            return Response(status, [], body)

        self.acts[path] = act

    @property
    def targets(self) -> list[str]:
        return [each.request.target for each in self.exchanges]


class Setting:
    """A warmer whose time passes by its own sleeping."""

    def __init__(self) -> None:
        self.upstream = Upstream()
        self.metrics = CacheStoreMetrics()
        self.clock = ManualClock()
        self.slept: list[float] = []
        self.warmer = Warmer(self.metrics, clock=self.clock, sleep=self.sleep)
        router: Router[Handler] = Router([(route, self.upstream) for route in ROUTES])
        makers = {
            route.name: KeyMaker(route.name, "api", route.cache.query) for route in ROUTES if route.cache is not None
        }
        self.targets = Targets(makers)
        self.targets.bind(router)
        self.requests = InternalRequests(
            router,
            dict.fromkeys(makers, self.upstream),
            UPSTREAMS,
            loop=asyncio.get_running_loop(),
            clock=self.clock,
            wall=lambda: 1e9,
            random_bytes=lambda size: b"\1" * size,
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def go_by(self, config: WarmConfig | None, *, holds_readiness: bool = False) -> None:
        await self.warmer.go_by(config, self.requests, self.targets, holds_readiness=holds_readiness)

    async def warm(self, **config: Any) -> WarmProgress:
        """Everything from beginning to end."""
        await self.go_by(WarmConfig.model_validate({**config, "urls": tuple(config.get("urls", ()))}))
        return await self.ended()

    async def ended(self) -> WarmProgress:
        async with asyncio.timeout(10):
            while (progress := self.warmer.progress) is None or progress.state in ("listing", "running"):  # noqa: ASYNC110
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        return progress


@pytest.fixture
async def setting() -> Setting:
    return Setting()


# --- what is fetched ------------------------------------------------------------------------------------------------


async def test_urls_of_the_file_are_fetched_in_their_order(setting: Setting) -> None:
    progress = await setting.warm(urls=["/properties/2", "/search?q=x", "/properties/1", "/properties/2"])

    assert setting.upstream.targets == ["/properties/2", "/search?q=x", "/properties/1"]
    assert progress == WarmProgress("ended", total=3, done=3)
    assert setting.metrics.warmed == {"ok": 3}


async def test_listed_urls_come_after_those_of_the_file(setting: Setting) -> None:
    setting.upstream.lists(b'[{"id": 1}, {"id": 2}]')

    progress = await setting.warm(urls=["/properties/2"], **{"from": "/properties?sort=views"})

    assert setting.upstream.targets == ["/properties?sort=views", "/properties/2", "/properties/1"]
    assert progress == WarmProgress("ended", total=2, done=2)


@pytest.mark.parametrize(
    "url",
    [
        "/elsewhere",  # no cache
        "/foreign/1",  # another upstream
        "/mine",  # of some user
        "/search?else=1",  # no key
        "/properties/%00",  # no request
        "http://elsewhere.test/properties/9",
        "/properties/" + "x" * 9000,
    ],
)
async def test_what_could_not_be_stored_or_is_not_ours_is_passed_over(setting: Setting, url: str) -> None:
    setting.upstream.lists(f"/properties/1\n{url}\n/properties/2\n".encode())

    progress = await setting.warm(**{"from": "/properties"})

    assert setting.upstream.targets[1:] == ["/properties/1", "/properties/2"]
    assert progress.total == 2


async def test_whole_urls_are_asked_for_under_their_own_authority_and_scheme(setting: Setting) -> None:
    setting.upstream.lists(
        b"http://API:3000/properties/1\nhttp://second/properties/2\n/properties/3\nhttp://api/properties/4"
    )

    await setting.warm(**{"from": "/properties"})

    asked = [(each.request.authority, each.request.target) for each in setting.upstream.exchanges]
    assert asked == [
        ("api:3000", "/properties"),
        ("api:3000", "/properties/1"),
        ("second", "/properties/2"),
        ("api:3000", "/properties/3"),
    ]


async def test_host_of_the_file_is_the_only_authority(setting: Setting) -> None:
    setting.upstream.lists(
        b"https://shop.test/properties/1\nhttp://api:3000/properties/2\n/properties/3#top\nhttps://shop.test"
    )

    await setting.warm(host="shop.test", **{"from": "/properties"})

    asked = [(each.scheme, each.request.authority, each.request.target) for each in setting.upstream.exchanges]
    assert asked == [
        ("http", "shop.test", "/properties"),
        ("https", "shop.test", "/properties/1"),
        ("http", "shop.test", "/properties/3"),
    ]


async def test_what_must_be_encoded_is(setting: Setting) -> None:
    setting.upstream.lists('["/properties/caf\u00e9 1", "/search?q=a b%20c"]'.encode())

    await setting.warm(**{"from": "/properties"})

    assert setting.upstream.targets[1:] == ["/properties/caf%C3%A9%201", "/search?q=a%20b%20c"]


@pytest.mark.parametrize("count", [1, 3])
async def test_limit_holds_for_everything_together(setting: Setting, count: int) -> None:
    setting.upstream.lists(b"[1, 2, 3, 4, 5]")

    progress = await setting.warm(urls=["/properties/9"], limit=count, **{"from": "/properties"})

    assert progress.total == count
    assert setting.upstream.targets[1:] == ["/properties/9", "/properties/1", "/properties/2"][:count]


async def test_requests_are_those_of_a_client_of_no_importance(setting: Setting) -> None:
    await setting.warm(urls=["/properties/7"])

    (exchange,) = setting.upstream.exchanges
    request = exchange.request
    assert (request.method, request.path, request.headers["Host"]) == ("GET", "/properties/7", "api:3000")
    assert (exchange.route.name, exchange.params, exchange.criticality) == ("details", {"id": "7"}, "background")
    assert not exchange.may_queue
    assert exchange.deadline == exchange.started + 30
    assert (exchange.wall_started, exchange.request_id) == (1e9, "01" * 16)
    assert exchange.client_ip == ""


async def test_list_of_a_route_without_a_limit_has_one(setting: Setting) -> None:
    await setting.warm(**{"from": "/properties"})

    assert setting.upstream.exchanges[0].deadline == setting.upstream.exchanges[0].started + 30


# --- how fast -------------------------------------------------------------------------------------------------------


async def test_urls_are_fetched_at_the_rate(setting: Setting) -> None:
    await setting.warm(urls=[f"/properties/{n}" for n in range(5)], rate=Rate(4, 1.0))

    assert setting.slept == [0.25] * 4


async def test_time_that_was_lost_is_not_made_up_for_by_a_burst(setting: Setting) -> None:
    async def slow(_: Exchange) -> Response:
        setting.clock.advance(10)
        return Response(200, [], b"")

    setting.upstream.acts["/properties/0"] = slow
    await setting.warm(urls=[f"/properties/{n}" for n in range(4)], rate=Rate(1, 1.0))

    # The clock jumps during the first sleep; those after it keep their distance.
    assert setting.slept == [1.0, 1.0, 1.0]


async def test_few_are_under_way_at_a_time(setting: Setting) -> None:
    gate, most, now = asyncio.Event(), 0, 0

    async def wait(_: Exchange) -> Response:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await gate.wait()
        now -= 1
        return Response(200, [], b"")

    urls = [f"/properties/{n}" for n in range(30)]
    setting.upstream.acts = dict.fromkeys(urls, wait)
    await setting.go_by(WarmConfig(urls=tuple(urls), rate=Rate(1000, 1.0)))
    for _ in range(200):
        await asyncio.sleep(0)
    gate.set()

    assert (await setting.ended()).done == 30
    assert most == 8


# --- what becomes of it ---------------------------------------------------------------------------------------------


async def test_failures_are_counted_and_do_not_stop_it(setting: Setting) -> None:
    async def fail(_: Exchange) -> Response:
        raise ConnectionRefused

    async def break_off(_: Exchange) -> Response:
        class Broken:
            async def read(self) -> bytes:
                raise ResponseIncomplete

        return Response(200, [], Broken())

    async def bug(_: Exchange) -> Response:
        raise KeyError("a bug")

    setting.upstream.acts = {"/properties/1": fail, "/properties/2": break_off, "/properties/4": bug}
    setting.upstream.lists(b"", 404, "/properties/3")

    progress = await setting.warm(urls=[f"/properties/{n}" for n in range(6)] + ["/properties/a%2fb%00"])

    assert progress == WarmProgress("ended", total=7, done=2, failed=5)
    assert setting.metrics.warmed == {"ok": 2, "failed": 5}


async def test_bodies_are_read_to_their_end_and_responses_closed(setting: Setting) -> None:
    body, closed = PiecewiseBody(b"a", b"b"), []

    async def stream(_: Exchange) -> Response:
        response = Response(200, [], body)
        response.on_close(lambda: closed.append(1))
        return response

    setting.upstream.acts["/properties/1"] = stream
    await setting.warm(urls=["/properties/1"])

    assert body.received == 2
    assert closed == [1]


async def test_list_is_asked_for_again_until_the_upstream_is_there(setting: Setting) -> None:
    answers: list[Any] = [ConnectionRefused("not yet"), 503, 200]

    async def act(_: Exchange) -> Response:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Response(answer, [], PiecewiseBody(b"[1", b"]"))

    setting.upstream.acts["/properties"] = act
    progress = await setting.warm(**{"from": "/properties"})

    assert (progress.state, progress.done) == ("ended", 1)
    assert setting.slept == [1.0, 2.0]


async def test_list_that_never_comes_is_given_up_and_said(setting: Setting) -> None:
    setting.upstream.lists(b"", 500)

    progress = await setting.warm(**{"from": "/properties"})

    assert progress == WarmProgress("failed", problem="/properties was answered with status 500")
    assert setting.slept == [1.0, 2.0, 4.0, 8.0, 15.0, 30.0]


async def test_without_its_list_the_urls_of_the_file_are_fetched_all_the_same(setting: Setting) -> None:
    setting.upstream.lists(b"", 500)

    progress = await setting.warm(urls=["/properties/1"], **{"from": "/properties"})

    assert (progress.state, progress.done) == ("ended", 1)
    assert progress.problem


@pytest.mark.parametrize("in_memory", [True, False])
async def test_list_that_is_too_long_is_not_read(setting: Setting, in_memory: bool) -> None:
    piece = b"/properties/1\n" * 5000
    pieces = [piece] * (MAX_LIST // len(piece) + 20)
    body = PiecewiseBody(*pieces)

    async def act(_: Exchange) -> Response:
        return Response(200, [], b"".join(pieces) if in_memory else body)

    setting.upstream.acts["/properties"] = act
    progress = await setting.warm(**{"from": "/properties"})

    assert progress == WarmProgress("failed", problem="what /properties lists is longer than 1048576 bytes")
    assert in_memory or len(piece) * 10 < len(b"".join(pieces)) - body.received


async def test_list_without_urls_is_an_end_like_any_other(setting: Setting) -> None:
    setting.upstream.lists(b"{}")

    assert await setting.warm(**{"from": "/properties"}) == WarmProgress("ended")


async def test_bug_ends_it_and_is_logged(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    async def bug(_: Exchange) -> Response:
        raise KeyError("a bug")

    setting.upstream.acts["/properties"] = bug
    progress = await setting.warm(**{"from": "/properties"})

    assert progress.state == "ended"
    assert "Bug" in caplog.text


# --- life -----------------------------------------------------------------------------------------------------------


async def test_without_configuration_there_is_nothing_to_do(setting: Setting) -> None:
    await setting.go_by(None)

    assert setting.warmer.start() == "off"
    assert setting.warmer.progress is None
    assert setting.warmer.unready() == ""


async def test_it_is_done_again_on_demand_but_not_twice_at_a_time(setting: Setting) -> None:
    await setting.go_by(WarmConfig(urls=("/properties/1",)))
    assert setting.warmer.start() == "running"
    await setting.ended()

    assert setting.warmer.start() == "started"
    assert (await setting.ended()).done == 1
    assert setting.upstream.targets == ["/properties/1"] * 2


async def test_reload_that_says_the_same_fetches_nothing_again(setting: Setting) -> None:
    await setting.warm(urls=["/properties/1"])
    await setting.go_by(WarmConfig(urls=("/properties/1",)))

    assert setting.upstream.targets == ["/properties/1"]


async def test_reload_that_says_something_else_replaces_what_is_under_way(setting: Setting) -> None:
    gate = asyncio.Event()

    async def wait(_: Exchange) -> Response:
        gate.set()
        await asyncio.Event().wait()
        raise AssertionError

    setting.upstream.acts["/properties/1"] = wait
    await setting.go_by(WarmConfig(urls=("/properties/1",)))
    await gate.wait()

    assert await setting.warm(urls=["/properties/2"]) == WarmProgress("ended", total=1, done=1)
    await setting.go_by(None)
    assert setting.warmer.progress is None


async def test_stop_leaves_nothing_behind(setting: Setting) -> None:
    gate = asyncio.Event()

    async def wait(_: Exchange) -> Response:
        gate.set()
        await asyncio.Event().wait()
        raise AssertionError

    setting.upstream.acts["/properties/1"] = wait
    await setting.go_by(WarmConfig(urls=("/properties/1", "/properties/2")))
    await gate.wait()

    await setting.warmer.close()
    await setting.warmer.close()


# --- readiness ------------------------------------------------------------------------------------------------------


async def test_readiness_waits_for_the_end_where_the_file_says_so(setting: Setting) -> None:
    gate = asyncio.Event()

    async def wait(_: Exchange) -> Response:
        await gate.wait()
        return Response(200, [], b"")

    setting.upstream.acts["/properties/2"] = wait
    config = WarmConfig(urls=("/properties/1", "/properties/2"), ready=True, rate=Rate(1000, 1.0))
    await setting.go_by(config, holds_readiness=True)
    assert setting.warmer.unready() == "warming"
    for _ in range(50):
        await asyncio.sleep(0)
    assert setting.warmer.unready() == "warming 1 of 2"

    gate.set()
    await setting.ended()
    assert setting.warmer.unready() == ""


@pytest.mark.parametrize(("ready", "holds"), [(False, True), (True, False)])
async def test_readiness_waits_for_nothing_else(setting: Setting, ready: bool, holds: bool) -> None:
    await setting.go_by(WarmConfig(urls=("/properties/1",), ready=ready), holds_readiness=holds)

    assert setting.warmer.unready() == ""
    await setting.warmer.close()


async def test_readiness_waits_for_a_minute_at_most(setting: Setting) -> None:
    await setting.go_by(WarmConfig(urls=("/properties/1",), ready=True), holds_readiness=True)
    setting.clock.advance(HOLDS_READINESS)

    assert setting.warmer.unready() == ""
    await setting.warmer.close()


async def test_readiness_does_not_wait_for_what_has_failed(setting: Setting) -> None:
    setting.upstream.lists(b"", 500)
    config = WarmConfig.model_validate({"from": "/properties", "ready": True})
    await setting.go_by(config, holds_readiness=True)

    await setting.ended()
    assert setting.warmer.unready() == ""


async def test_it_shows_its_progress(setting: Setting) -> None:
    await setting.warm(urls=["/properties/1"])

    assert repr(setting.warmer).startswith("<Warmer WarmProgress(state='ended'")
