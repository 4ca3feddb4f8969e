"""When a stale response is sent, what is fetched behind the client's back, and what stands in for an error."""

import asyncio
from typing import Any

import pytest

from proxy.errors import (
    BreakerOpen,
    BulkheadFull,
    ConnectionRefused,
    DeadlineExceeded,
    ProxyError,
    ResponseIncomplete,
    UpstreamTimeout,
)
from proxy.exchange import Exchange, Response
from proxy.protocol.caching.stored import Validity
from tests.support.cache_layer import FRESH, START, CacheLayer, Held, reply, validated, versions
from tests.support.exchange import Outcome
from tests.support.fills import ArrivingBody
from tests.support.waiting import eventually

pytestmark = [pytest.mark.usefixtures("leak_check")]

SWR = {"Cache-Control": "max-age=10, stale-while-revalidate=30"}
SIE = {"Cache-Control": "max-age=10, stale-if-error=30"}
DOWN = ConnectionRefused()
OPEN = BreakerOpen(request_written=False)
FULL = BulkheadFull(request_written=False)


def taking(site: CacheLayer, seconds: float, headers: dict[str, str], body: bytes = b"x") -> Outcome:
    """A response that takes so long."""

    async def answer(exchange: Exchange) -> Response:
        site.later(seconds)
        return Response(200, [(name.encode(), value.encode()) for name, value in headers.items()], body)

    return answer


# --- stale while it is fetched anew ---------------------------------------------------------------------------------


async def test_stale_response_is_sent_while_one_request_fetches_it_anew() -> None:
    site = CacheLayer(versions(SWR))

    await site.get()
    site.later(12)
    answer = await site.get()
    await site.settle()

    assert (answer.body, answer.said, answer.field("Age")) == (b"1", "hit;ttl=-2", "12")
    assert answer.decisions == [("cache", "stale", "enforce")]
    own = site.upstream.exchanges[-1]
    assert (own.criticality, own.may_queue) == ("background", False)
    assert ((await site.get()).body, site.fetches, site.is_at_rest) == (b"2", 2, True)
    assert site.metrics.fills == {("miss", "stored"): 1, ("refresh", "stored"): 1}


async def test_nobody_fetches_what_is_being_fetched() -> None:
    refresh = Held(reply(FRESH, b"new"))
    site = CacheLayer(reply(SWR, b"old"), refresh)

    await site.get()
    site.later(12)
    assert [(await site.get()).body for _ in range(5)] == [b"old"] * 5
    await site.settle()
    assert site.fetches == 2
    refresh.comes()
    await site.settle()
    assert (await site.get()).body == b"new"


async def test_refresh_goes_on_without_the_client_that_has_begun_it() -> None:
    refresh = Held(validated({}, {"ETag": '"1"', **FRESH}))
    site = CacheLayer(reply({**SWR, "ETag": '"1"'}, b"old"), refresh)

    await site.get()
    site.later(12)
    await site.get(x_one="1")
    refresh.comes()
    await site.settle()

    assert (site.fetched()["if-none-match"], (await site.get()).said) == ('"1"', "hit;ttl=60")


@pytest.mark.parametrize("failure", [OPEN, FULL, DOWN, reply({}, b"x", status=503)])
async def test_failed_refresh_leaves_what_is_stored(failure: Outcome) -> None:
    site = CacheLayer(reply(SWR, b"body"), failure)

    await site.get()
    site.later(12)

    assert [(await site.get()).body for _ in range(3)] == [b"body"] * 3
    await site.settle()
    assert site.is_at_rest


async def test_response_beyond_its_window_is_not_sent() -> None:
    site = CacheLayer(versions(SWR))

    await site.get()
    site.later(41)

    assert (await site.get()).body == b"2"


@pytest.mark.parametrize("more", ["must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"])
@pytest.mark.parametrize("fails", [False, True])
async def test_what_must_be_validated_is_never_sent_stale(more: str, fails: bool) -> None:
    control = f"max-age=10, stale-while-revalidate=60, stale-if-error=60, {more}"
    first = reply({"Cache-Control": control, "ETag": '"1"'}, b"old")
    site = CacheLayer(first, DOWN if fails else reply({}, b"new"), stale_while_revalidate="1h", stale_if_error="1h")

    await site.get()
    site.later(11)

    if fails:
        with pytest.raises(ConnectionRefused):
            await site.get()
    else:
        assert (await site.get(cache_control="max-stale")).body == b"new"


async def test_client_that_depends_on_a_refresh_does_not_fail_with_it() -> None:
    """Background work is turned away first: who has joined it is not less important for that."""
    refresh = Held(FULL)
    site = CacheLayer(reply(SWR, b"old"), refresh, reply(FRESH, b"new"))

    await site.get()
    site.later(12)
    await site.get()
    site.later(40)
    waiting = [site.asking() for _ in range(3)]
    await site.settle()
    refresh.comes()

    assert [(await each).body for each in waiting] == [b"new"] * 3
    assert site.fetches == 3


# --- early refreshes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "left", "is_fetched"),
    [
        (0.5, 1.3, True),
        (0.5, 1.5, False),
        (0.9, 1.3, False),
        (0.1, 4.5, True),
        (0.1, 4.7, False),
        (0.0, 19.0, True),
        (0.0, 21.0, False),
    ],
)
@pytest.mark.parametrize("is_on", [True, False])
async def test_hot_response_is_fetched_by_lot_before_its_end(
    draw: float, left: float, is_fetched: bool, is_on: bool
) -> None:
    """One that took 2 s: 2 * -ln(draw) seconds before its end, and not earlier than 20."""
    site = CacheLayer(early_refresh=is_on)
    site.serve(taking(site, 2, {"Cache-Control": "max-age=50"}))
    site.draw = draw

    await site.get()
    site.later(48 - left)
    answer = await site.get()
    await site.settle()

    assert answer.said.startswith("hit")
    assert site.fetches == (2 if is_fetched and is_on else 1)


@pytest.mark.parametrize(("draw", "ends"), [(0.0, 1000), (0.5, 950), (0.999, 901)])
async def test_ends_of_what_was_stored_together_are_spread(draw: float, ends: int) -> None:
    site = CacheLayer(versions({"Cache-Control": "max-age=1000"}))
    site.draw = draw

    await site.get()
    site.draw = 1.0
    site.later(ends - 1)
    await site.get()
    await site.settle()
    assert site.fetches == 1
    site.later(1.5)
    await site.get()
    await site.settle()
    assert site.fetches == 2


async def test_response_that_is_old_when_it_comes_is_not_fetched_anew_at_once() -> None:
    """Its end is spread over what is left of its freshness, not over a time that has passed before it came."""
    site = CacheLayer(versions({"Cache-Control": "max-age=3600", "Age": "3500"}))
    site.draw = 0.9

    await site.get()
    for _ in range(5):
        await site.get()
        await site.settle()

    assert site.fetches == 1


# --- soft purges ----------------------------------------------------------------------------------------------------


async def test_what_is_purged_softly_is_stale_from_then_on() -> None:
    site = CacheLayer(versions({"Cache-Control": "max-age=600, stale-while-revalidate=30"}))

    await site.get()
    site.later(100)
    site.purge("property:r", Validity.SOFT)
    site.later(20)
    answer = await site.get()
    await site.settle()

    assert (answer.body, answer.field("Age"), answer.said) == (b"1", "120", "hit;ttl=-20")
    assert ((await site.get()).body, site.fetches) == (b"2", 2)


async def test_window_of_a_soft_purge_begins_with_it() -> None:
    site = CacheLayer(versions({"Cache-Control": "max-age=600, stale-while-revalidate=30"}))

    await site.get()
    site.purge("*", Validity.SOFT)
    site.later(31)

    assert (await site.get()).said == "fwd=stale;fwd-status=200;stored"


async def test_soft_purge_of_much_is_fetched_anew_little_by_little() -> None:
    site = CacheLayer(versions({"Cache-Control": "max-age=600, stale-while-revalidate=300"}))
    targets = [f"/{number}" for number in range(30)]

    for target in targets:
        await site.get(target)
    site.purge(site.route_tag, Validity.SOFT)
    for refreshed in (10, 15):
        for target in targets:
            await site.get(target)
        await site.settle()
        assert site.fetches == 30 + refreshed
        site.later(0.5)


# --- instead of an error --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        *[(reply({}, b"x", status=status), f"fwd=stale;fwd-status={status}") for status in (500, 502, 503, 504)],
        (DOWN, "fwd=stale"),
        (UpstreamTimeout("total"), "fwd=stale"),
        (DeadlineExceeded(), "fwd=stale"),
        (OPEN, "hit;ttl=-1"),
        (FULL, "hit;ttl=-1"),
    ],
)
@pytest.mark.parametrize("by_route", [False, True])
async def test_stale_response_stands_in_for_a_failure(failure: Outcome, said: str, by_route: bool) -> None:
    option: dict[str, Any] = {"stale_if_error": "30s"} if by_route else {}
    site = CacheLayer(reply({"Cache-Control": "max-age=10"} if by_route else SIE, b"body"), failure, **option)

    await site.get()
    site.later(11)
    answer = await site.get()

    assert (answer.status, answer.body, answer.field("Age")) == (200, b"body", "11")
    assert answer.said == f'{said};detail="error"'
    assert ("cache", "stale_on_error", "enforce") in answer.decisions
    assert (answer.exchange.cache_outcome, site.is_at_rest) == ("stale", True)


async def test_failure_with_a_body_that_arrives_is_given_up() -> None:
    closed: list[bool] = []

    async def failing(exchange: Exchange) -> Response:
        response = Response(503, [], ArrivingBody(b"x"))
        response.on_close(lambda: closed.append(True))
        return response

    site = CacheLayer(reply(SIE, b"body"), failing)
    await site.get()
    site.later(11)

    assert (await site.get()).body == b"body"
    await eventually(lambda: site.is_at_rest)
    assert closed == [True]


@pytest.mark.parametrize("status", [400, 404, 429, 501, 505])
async def test_other_statuses_are_answers(status: int) -> None:
    site = CacheLayer(reply(SIE, b"body"), reply({}, b"x", status=status))

    await site.get()
    site.later(11)

    assert (await site.get()).status == status


@pytest.mark.parametrize(
    ("age", "asked", "is_sent"),
    [
        (40, "", True),
        (41, "", False),
        (11, "no-cache", False),
        (11, "max-age=5", True),
        (11, "stale-if-error=0", False),
        (90, "stale-if-error=80", True),
    ],
)
async def test_window_for_errors_is_that_of_the_response_or_of_the_request(age: int, asked: str, is_sent: bool) -> None:
    site = CacheLayer(reply(SIE, b"body"), DOWN)

    await site.get()
    site.later(age)

    if is_sent:
        assert (await site.get(**({"cache_control": asked} if asked else {}))).body == b"body"
    else:
        with pytest.raises(ConnectionRefused):
            await site.get(**({"cache_control": asked} if asked else {}))


@pytest.mark.parametrize(
    ("validity", "is_sent"), [(Validity.SOFT, True), (Validity.INVALID, False), (Validity.GONE, False)]
)
@pytest.mark.parametrize("is_purged_meanwhile", [False, True])
@pytest.mark.parametrize("failure", [DOWN, reply({}, b"x", status=500)])
async def test_what_has_changed_stands_in_for_nothing(
    validity: Validity, is_sent: bool, is_purged_meanwhile: bool, failure: Outcome
) -> None:
    """Also if the change comes while the upstream is asked."""
    held = Held(failure)
    site = CacheLayer(reply({"Cache-Control": "max-age=10, stale-if-error=600"}, b"old"), held)

    await site.get()
    site.later(11)
    if not is_purged_meanwhile:
        site.purge("*", validity)
    asking = site.asking()
    await held.reached.wait()
    if is_purged_meanwhile:
        site.purge("*", validity)
    held.comes()

    if is_sent:
        assert (await asking).body == b"old"
    elif isinstance(failure, ProxyError):
        with pytest.raises(ConnectionRefused):
            await asking
    else:
        assert (await asking).status == 500


# --- what a fallback may use ----------------------------------------------------------------------------------------


async def failed(site: CacheLayer, **fields: str) -> Exchange:
    """The exchange of a GET that fails."""
    exchange = site.exchange(headers={name.replace("_", "-").title(): value for name, value in fields.items()})
    with pytest.raises(ConnectionRefused):
        await site.send(exchange)
    return exchange


async def test_stale_response_is_left_to_a_fallback() -> None:
    site = CacheLayer(reply({"Cache-Control": "max-age=10"}, b"body"), DOWN)

    await site.get()
    site.later(11)
    exchange = await failed(site)

    assert exchange.stored is not None
    assert (exchange.stored.body, exchange.last_good) == (b"body", None)


async def test_what_has_changed_is_left_to_a_fallback_as_the_last_good_one_alone() -> None:
    site = CacheLayer(reply(FRESH, b"body"), DOWN, keeps_good=True)

    await site.get()
    site.purge("*")
    exchange = await failed(site)

    assert exchange.last_good is not None
    assert (exchange.stored, exchange.last_good.body) == (None, b"body")


async def test_what_is_gone_is_left_to_nobody() -> None:
    held = Held(DOWN)
    site = CacheLayer(reply({"Cache-Control": "max-age=10"}, b"body"), held, keeps_good=True)

    await site.get()
    site.later(11)
    exchange = site.exchange()
    asking = asyncio.ensure_future(site.send(exchange))
    await held.reached.wait()
    site.purge("*", Validity.GONE)
    held.comes()

    with pytest.raises(ConnectionRefused):
        await asking
    assert (exchange.stored, exchange.last_good) == (None, None)


async def test_last_good_response_is_not_an_error_that_came_after_it() -> None:
    site = CacheLayer(reply({"Cache-Control": "max-age=10"}, b"good"), keeps_good=True)

    await site.get()
    site.later(11)
    site.serve(reply({"Cache-Control": "max-age=10"}, b"bad", status=404), DOWN)
    await site.get()
    site.later(11)
    exchange = await failed(site)

    assert exchange.last_good is not None
    assert exchange.stored is not None
    assert (exchange.stored.body, exchange.last_good.body) == (b"bad", b"good")


async def test_error_is_no_last_good_response() -> None:
    site = CacheLayer(reply({"Cache-Control": "max-age=10"}, b"bad", status=404), DOWN, keeps_good=True)

    await site.get()
    site.later(11)

    assert (await failed(site)).last_good is None


# --- while nothing is heard of changes ------------------------------------------------------------------------------


async def test_response_is_used_on_for_a_while_only_while_nothing_is_heard() -> None:
    site = CacheLayer(validated({"Cache-Control": "max-age=600", "ETag": '"1"'}, {"ETag": '"1"'}))

    await site.get()
    site.later(100)
    site.store.purges.gap_since = START + 100
    site.later(9)
    assert (await site.get()).said == "hit;ttl=491"
    site.later(1)
    assert (await site.get()).said == "fwd=stale;fwd-status=304;stored"
    site.later(9)
    assert (await site.get()).said.startswith("hit"), "the upstream has said so within the time"
    site.later(1)
    assert (await site.get()).said.startswith("fwd")
    site.store.purges.gap_since = None
    assert (await site.get()).said.startswith("hit")


async def test_response_that_breaks_off_is_not_stored() -> None:
    body = ArrivingBody(b"ha")
    body.ends(ResponseIncomplete())
    site = CacheLayer(reply(FRESH, body), reply(FRESH, b"whole"))

    with pytest.raises(ResponseIncomplete):
        await site.get()

    assert (await site.get()).body == b"whole"
