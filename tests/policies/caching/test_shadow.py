"""The cache in shadow: says what it would have done, and changes nothing."""

from typing import Any

import pytest

from proxy.errors import ConnectionRefused
from proxy.exchange import Exchange, Response
from proxy.protocol.caching.stored import Validity
from tests.support.cache_layer import FRESH, Answer, CacheLayer, Held, ended, reply, versions
from tests.support.fills import ArrivingBody

pytestmark = [pytest.mark.usefixtures("leak_check")]


def layer(*outcomes: Any, **options: Any) -> CacheLayer:
    return CacheLayer(*outcomes, is_shadow=True, invalidates=(), **options)


def told(answer: Answer) -> list[tuple[str, str, str]]:
    assert answer.exchange.cache_outcome == ""
    return [each for each in answer.decisions if each[0] == "cache"]


async def test_every_answer_is_the_upstream_s_own() -> None:
    site = layer(versions(FRESH))

    answers = [await site.get() for _ in range(3)]

    assert [(each.body, each.fields) for each in answers] == [
        (b"%d" % number, [(b"Cache-Control", b"max-age=60")]) for number in (1, 2, 3)
    ]
    assert [told(each) for each in answers] == [
        [("cache", "miss", "shadow")],
        [("cache", "hit", "shadow")],
        [("cache", "hit", "shadow")],
    ]
    assert site.metrics.outcomes == {("shadow", "miss"): 1, ("shadow", "hit"): 2}
    assert (site.metrics.hits, list(site.metrics.recent)) == (0, [])


async def test_response_object_passes_untouched() -> None:
    response = Response(200, [(b"Cache-Control", b"max-age=60")], b"x")
    headers = response.headers
    site = layer(response)

    assert await site.handler.handle(site.exchange()) is response
    assert response.headers is headers


@pytest.mark.parametrize(
    ("age", "fields", "outcome"),
    [
        (5, {}, "hit"),
        (15, {}, "stale"),
        (50, {}, "revalidated"),
        (5, {"cache_control": "no-cache"}, "revalidated"),
        (50, {"cache_control": "max-stale"}, "stale"),
    ],
)
async def test_it_reports_what_it_would_have_done(age: int, fields: dict[str, str], outcome: str) -> None:
    site = layer(versions({"Cache-Control": "max-age=10, stale-while-revalidate=30"}))

    await site.get()
    site.later(age)

    assert told(await site.get(**fields)) == [("cache", outcome, "shadow")]
    assert (site.fetches, site.is_at_rest) == (2, True)


async def test_head_would_be_answered_from_what_get_has_brought() -> None:
    site = layer(versions(FRESH))

    assert told(await site.ask("HEAD")) == [("cache", "miss", "shadow")]
    assert told(await site.get()) == [("cache", "miss", "shadow")]
    assert told(await site.ask("HEAD")) == [("cache", "hit", "shadow")]


async def test_what_has_no_key_would_be_passed_by() -> None:
    site = layer(versions(FRESH), query=("page",), per_user="header:X-User-ID")

    asked = [
        await site.ask("POST", "/r", {"X-User-ID": "ada"}),
        await site.ask("GET", "/r", {"X-User-ID": "ada"}, body=b"x"),
        await site.ask("GET", "/r?other=1", {"X-User-ID": "ada"}),
        await site.get(),
    ]

    assert [told(each) for each in asked] == [[("cache", "bypass", "shadow")]] * 4
    assert told(await site.get(x_user_id="ada")) == [("cache", "miss", "shadow")]
    assert told(await site.get(x_user_id="ada")) == [("cache", "hit", "shadow")]
    assert told(await site.get(x_user_id="bob")) == [("cache", "miss", "shadow")]


async def test_heads_are_remembered_without_bodies_and_apart_from_what_is_in_force() -> None:
    site = layer(versions({**FRESH, "X-Long": "x" * 500}))

    await site.get()

    (entry,) = site.store.shadow.stored()
    assert (entry.stored.body, entry.stored.fields, site.store.memory.entries) == (b"", (), 0)


def open_ended() -> Response:
    response = Response(200, [(b"Cache-Control", b"max-age=60")], b"x")
    response.is_open_ended = True
    return response


@pytest.mark.parametrize(
    "outcome",
    [
        versions({"Cache-Control": "private, max-age=60"}),
        reply({**FRESH, "Content-Range": "bytes 0-0/9", "Content-Length": "1"}, b"x", status=206),
        reply(FRESH, b"x" * 101),
        reply({**FRESH, "Content-Length": "101"}, ArrivingBody(b"")),
        reply({**FRESH, "Content-Type": "text/event-stream"}, ArrivingBody(b"")),
        open_ended(),
        reply(FRESH, b"x", status=503),
    ],
)
async def test_what_would_not_be_kept_is_not_remembered(outcome: Any) -> None:
    site = layer(outcome, max_body=100)

    (await site.handler.handle(site.exchange())).close()

    assert site.memory.entries == 0


async def test_purges_count() -> None:
    site = layer(versions(FRESH))

    await site.get()
    site.purge("property:r", Validity.INVALID)
    assert told(await site.get()) == [("cache", "revalidated", "shadow")]
    assert told(await site.get()) == [("cache", "hit", "shadow")]


async def test_response_from_before_a_purge_is_not_remembered() -> None:
    held = Held(versions(FRESH))
    site = layer(held)

    asking = site.asking()
    await held.reached.wait()
    site.purge("*")
    held.comes()
    await asking

    assert site.memory.entries == 0


async def test_nobody_waits_for_anybody() -> None:
    first = Held(reply(FRESH, b"1"))
    site = layer(first, reply(FRESH, b"2"))

    waiting = site.asking()
    await first.reached.wait()
    assert (await site.get()).body == b"2"
    await ended(waiting)
    assert first.was_cancelled


async def test_failures_pass() -> None:
    site = layer(versions({"Cache-Control": "max-age=10, stale-if-error=60"}), ConnectionRefused())

    await site.get()
    site.later(11)
    exchange = site.exchange()
    with pytest.raises(ConnectionRefused):
        await site.send(exchange)
    assert exchange.stored is None
    with pytest.raises(ConnectionRefused):
        await site.get(cache_control="only-if-cached")


async def test_tunnel_is_left_alone() -> None:
    async def switching(exchange: Exchange) -> Response:
        return Response(101, [])

    site = layer(switching)
    exchange = site.exchange(headers={"Upgrade": "websocket"})
    exchange.request.upgrade = True

    answer = await site.send(exchange)

    assert (answer.status, told(answer), site.memory.entries) == (101, [("cache", "bypass", "shadow")], 0)
