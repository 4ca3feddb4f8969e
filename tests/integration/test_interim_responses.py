"""What the upstream says before its answer reaches the client that waits for it, and nobody else (RFC 9110 15.2)."""

from typing import Any

import pytest

from tests.support.aftermath import assert_problem, assert_unharmed, until_metric, wait_at_rest
from tests.support.app import running_app
from tests.support.cache_site import FRESH, PATH, cache_site
from tests.support.client import RawClient
from tests.support.messages import Response
from tests.support.settings import policies
from tests.support.steps import Gate, Step, Turn, hang, interim, reply, reply_chunked, reset, send, sequence, tunnel
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.both_loops

LINK = {"Link": "</style.css>; rel=preload; as=style"}
HINT = interim(103, LINK)


def seen(response: Response) -> list[tuple[int, list[tuple[str, str]]]]:
    """Status and fields of the interim responses before this one."""
    return [
        (each.status, [(name.decode(), value.decode()) for name, value in each.headers]) for each in response.interim
    ]


def by_turns(*scripts: Step) -> Step:
    """The first script for the first request, and so on."""
    left = iter(scripts)

    async def step(turn: Turn) -> None:
        await next(left)(turn)

    return step


# --- on their way through ---


async def test_they_arrive_before_there_is_an_answer() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/hint", HINT, gate, reply(200, {}, b"final"))
        async with RawClient(app.port) as client:
            await client.send_request("GET", "/hint")
            early = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n"
            assert await client.wire.read_exactly(len(early)) == early

            gate.open()
            response = await client.read_response()
            assert (response.status, response.body, response.interim) == (200, b"final", [])
            await assert_unharmed(app, client)


@pytest.mark.parametrize("final", [reply(200, {}, b"final"), reply_chunked(b"fi", b"nal"), reply(404, {}, b"final")])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_all_of_them_pass_in_their_order(method: str, final: Step) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/hint", interim(102), HINT, interim(104, {"X-Offset": "7"}), interim(199), final)
        async with RawClient(app.port) as client:
            response = await client.request(method, "/hint", body=b"body" if method == "POST" else None)

            assert [each.status for each in response.interim] == [102, 103, 104, 199]
            assert response.interim[2].header("X-Offset") == "7"
            assert (response.body, response.header("Link"), response.header("X-Offset")) == (b"final", None, None)
            await assert_unharmed(app, client)


async def test_only_what_is_meant_for_the_client_passes() -> None:
    """100 answers an expectation that Tidegate deals with itself; hop-by-hop fields end here, framing there is none."""
    fields = {
        **LINK,
        "Content-Length": "5",
        "Connection": "X-Private",
        "X-Private": "1",
        "Keep-Alive": "timeout=5",
        "X-Request-ID": "theirs",
        "Server": "origin/1",
        "X-Set": "theirs",
    }
    edit = {"response": {"remove": ["Server"], "set": {"X-Set": "ours"}}}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route={"headers": edit})) as app:
        upstream.on("/hint", interim(100), interim(103, fields), reply(200))
        async with RawClient(app.port) as client:
            response = await client.request("GET", "/hint")

    assert seen(response) == [(103, [*LINK.items()])]
    assert response.header("X-Set") == "ours"


@pytest.mark.parametrize(
    "message",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: a\x01b\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink : ab\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n" + b"X: 1\r\n" * 129 + b"\r\n",
    ],
    ids=["control byte", "space before the colon", "too long", "too many fields"],
)
async def test_what_no_final_response_may_hold_does_not_pass(message: bytes) -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/hint", send(message), reply(200))
        async with RawClient(app.port) as client:
            response = await client.request("GET", "/hint")

            assert (response.status, response.interim) == (502, [])
            await assert_unharmed(app, client)


async def test_client_of_the_old_protocol_gets_none() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/hint", HINT, reply(200, {}, b"final"))
        async with RawClient(app.port) as client:
            await client.send(b"GET /hint HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            response = await client.read_response()

    assert (response.status, response.body, response.interim) == (200, b"final", [])


async def test_each_answer_on_a_connection_has_its_own() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        for number in range(3):
            upstream.on(f"/{number}", interim(103, {"X-Of": str(number)}), reply(200, {}, b"%d" % number))
        async with RawClient(app.port) as client:
            await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(3)))
            answers = [await client.read_response() for _ in range(3)]

    assert [(each.body, [one.header("X-Of") for one in each.interim]) for each in answers] == [
        (b"0", ["0"]),
        (b"1", ["1"]),
        (b"2", ["2"]),
    ]


async def test_they_come_before_a_change_of_protocols() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/ws", HINT, tunnel())
        async with RawClient(app.port) as client:
            await client.send_request("GET", "/ws", {"Connection": "Upgrade", "Upgrade": "websocket"})
            response = await client.read_head()
            await client.send(b"ping")

            assert (response.status, seen(response)) == (101, [(103, [*LINK.items()])])
            assert await client.wire.read_exactly(4) == b"ping"


# --- attempts that fail ---


async def test_every_attempt_may_send_its_own() -> None:
    route = {"retry": {"max_attempts": 2, "base_delay": "1ms", "max_delay": "2ms"}}
    failing = by_turns(sequence(HINT, reset()), sequence(interim(103, {"X-Attempt": "2"}), reply(200)))
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route=route)) as app:
        upstream.on("/hint", failing)
        async with RawClient(app.port) as client:
            response = await client.request("GET", "/hint")
            assert (response.status, seen(response)) == (200, [(103, [*LINK.items()]), (103, [("X-Attempt", "2")])])
            await assert_unharmed(app, client)


@pytest.mark.parametrize("cache", [{}, {"cache": {}}], ids=["without a cache", "with a cache"])
async def test_nothing_follows_the_answer_of_an_exchange_that_took_too_long(cache: dict[str, Any]) -> None:
    gate = Gate()
    route = {"timeout": {"total": "500ms"}, **cache}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, route=route)) as app:
        upstream.on("/hint", HINT, gate, HINT, hang())
        async with RawClient(app.port) as client:
            response = await client.request("GET", "/hint")
            assert (response.status, len(response.interim)) == (504, 1)
            gate.open()
            await upstream.wait_closed(1)
            assert (await client.request("GET", "/after")).interim == []


async def test_client_that_leaves_is_no_failure_of_the_upstream() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/hint", gate, interim(103, LINK, times=32), reply(200))
        async with RawClient(app.port) as client:
            await client.send_request("GET", "/hint")
            await gate.reached.wait()
            client.reset()
            gate.open()
        await wait_at_rest(app)
        await assert_unharmed(app)
        assert await app.metric("proxy_upstream_attempts_total", outcome="http_protocol_error") == 0


# --- with a cache ---


async def test_the_one_that_a_fill_was_begun_for_gets_them_and_nobody_else() -> None:
    gate = Gate()
    async with cache_site() as site:
        site.upstream.on("*", gate, HINT, site.answer(FRESH, b"final"))
        async with RawClient(site.app.port) as leader, RawClient(site.app.port) as follower:
            await leader.send_request("GET", PATH)
            await gate.reached.wait()
            await follower.send_request("GET", PATH)
            await until_metric(site.app, 2, "proxy_requests_in_flight")
            gate.open()
            first, second = await leader.read_response(), await follower.read_response()
        third = await site.get()

    assert seen(first) == [(103, [*LINK.items()])]
    assert (second.interim, third.interim) == ([], [])
    assert {each.body for each in (first, second, third)} == {b"final"}
    assert site.fills == 1


async def test_they_come_before_what_a_validation_confirms() -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=10", "ETag": '"a"'}, b"stored")
        site.later(11)
        site.upstream.on("*", HINT, site.answer({"Cache-Control": "max-age=10", "ETag": '"a"'}, status=304))
        response = await site.get()

    assert (response.status, response.body, seen(response)) == (200, b"stored", [(103, [*LINK.items()])])


async def test_what_is_for_caches_alone_stays_here() -> None:
    async with cache_site() as site:
        site.upstream.on("*", interim(103, {"Surrogate-Control": "max-age=9", **LINK}), site.answer(FRESH, b"final"))
        response = await site.get()

    assert seen(response) == [(103, [*LINK.items()])]


async def test_a_fetch_behind_the_clients_back_tells_it_nothing() -> None:
    gate = Gate()
    async with cache_site() as site, RawClient(site.app.port) as client:
        await site.stored({"Cache-Control": "max-age=10, stale-while-revalidate=60"}, b"stored")
        site.later(11)
        site.upstream.on("*", HINT, gate, site.answer(FRESH, b"fresh"))
        stale = await client.request("GET", PATH)
        await gate.reached.wait()
        gate.open()
        await wait_at_rest(site.app)
        fresh = await client.request("GET", PATH)

    assert [(each.body, each.interim) for each in (stale, fresh)] == [(b"stored", []), (b"fresh", [])]


async def test_the_fill_goes_on_when_the_one_who_gets_them_leaves() -> None:
    gate = Gate()
    async with cache_site() as site:
        site.upstream.on("*", HINT, gate, HINT, site.answer(FRESH, b"final"))
        async with RawClient(site.app.port) as leader, RawClient(site.app.port) as follower:
            await leader.send_request("GET", PATH)
            await gate.reached.wait()
            await follower.send_request("GET", PATH)
            await until_metric(site.app, 2, "proxy_requests_in_flight")
            leader.reset()
            await until_metric(site.app, 1, "proxy_requests_in_flight")
            gate.open()
            response = await follower.read_response()

    assert (response.status, response.body, response.interim, site.fills) == (200, b"final", [], 1)


async def test_nothing_of_a_fill_that_goes_on_follows_the_answer_of_the_one_who_could_wait_no_longer() -> None:
    """The follower came later and waits longer: the fill is still under way when its leader has got its answer."""
    gate = Gate()
    async with cache_site(server={"trusted_proxies": ["127.0.0.1"]}) as site:
        site.upstream.on(PATH, HINT, gate, HINT, site.answer(FRESH, b"final"))
        async with RawClient(site.app.port) as leader, RawClient(site.app.port) as follower:
            await leader.send_request("GET", PATH, {"X-Request-Deadline-Ms": "500"})
            await gate.reached.wait()
            await follower.send_request("GET", PATH)
            late = await leader.read_response()
            gate.open()
            response = await follower.read_response()
            after = await leader.request("GET", PATH)

    assert_problem(late, 504, "http_response_timeout")
    assert len(late.interim) == 1
    assert [(each.body, each.interim) for each in (response, after)] == [(b"final", [])] * 2
    assert site.fills == 1
