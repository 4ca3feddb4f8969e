"""When a stale response may be sent: RFC 9111 section 4.2.4 and 5.2.2, RFC 5861."""

import pytest

from tests.support.cache_site import CacheSite, cache_site
from tests.support.client import get
from tests.support.steps import Gate, Step, hang, reset

GENEROUS = "stale-while-revalidate=600, stale-if-error=600"
FORBIDDING = [
    "max-age=10, must-revalidate",
    "max-age=10, proxy-revalidate",
    "s-maxage=10",
    "max-age=10, no-cache",
    "max-age=10, Must-Revalidate",
    "max-age=10, must-revalidate, public",
]
IS_DOWN = [reset(), hang()]
TIMEOUT = {"timeout": "200ms"}


async def stored_and_stale(site: CacheSite, control: str, later: float = 15, **fields: str) -> None:
    """One response, stored under these directives and then left to age."""
    await site.stored({"Cache-Control": control, **fields}, b"stored")
    site.later(later)


async def asked_again(site: CacheSite) -> int:
    """How many requests have reached the upstream when nothing goes on any more in the background."""
    await site.upstream.wait_until(lambda: site.fills >= 2)
    return site.fills


@pytest.mark.parametrize("control", FORBIDDING)
@pytest.mark.parametrize("failure", IS_DOWN, ids=["reset", "silence"])
@pytest.mark.parametrize("request_control", ["", "max-stale", "max-stale=600", "stale-if-error=600"])
@pytest.mark.requirement(
    "9111-4.2.4-1",
    "9111-5.2.2.2-1",
    "9111-5.2.2.2-2",
    "9111-5.2.2.2-3",
    "9111-5.2.2.2-4",
    "9111-5.2.2.8-1",
    "9111-5.2.2.10-2",
    "9111-5.2.2.4-1",
)
async def test_forbidden_stale_response_is_not_sent_when_disconnected(
    control: str, failure: Step, request_control: str
) -> None:
    async with cache_site({"stale_while_revalidate": "1h", "stale_if_error": "1h"}, route=TIMEOUT) as site:
        await stored_and_stale(site, f"{control}, {GENEROUS}")
        site.upstream.on("*", failure)

        answer = await site.get(headers={"Cache-Control": request_control} if request_control else {})

        assert answer.status in (502, 504)
        assert answer.body != b"stored"


@pytest.mark.parametrize("control", FORBIDDING)
@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.requirement("9111-4.2.4-1", "9111-5.2.2.2-1", "9111-5.2.2.8-1", "9111-5.2.2.10-2", "9111-4.3.3-2")
async def test_forbidden_stale_response_is_not_sent_on_an_error(control: str, status: int) -> None:
    async with cache_site({"stale_if_error": "1h"}) as site:
        await stored_and_stale(site, f"{control}, {GENEROUS}", ETag='"a"')
        site.serve({}, b"error", status=status)

        answer = await site.get()

        assert (answer.status, answer.body) == (status, b"error")


@pytest.mark.parametrize("control", FORBIDDING)
@pytest.mark.parametrize("request_control", ["", "max-stale", "max-stale=600"])
@pytest.mark.requirement("9111-4.2.4-1", "9111-5.2.2.2-1", "9111-5.2.2.8-1", "9111-5.2.2.10-2")
async def test_forbidden_stale_response_is_validated_first(control: str, request_control: str) -> None:
    async with cache_site({"stale_while_revalidate": "1h"}) as site:
        await stored_and_stale(site, f"{control}, {GENEROUS}", ETag='"a"')
        site.serve({"Cache-Control": control, "ETag": '"b"'}, b"new")

        answer = await site.get(headers={"Cache-Control": request_control} if request_control else {})

        assert answer.body == b"new"


@pytest.mark.parametrize("control", FORBIDDING[:3])
@pytest.mark.requirement("9111-5.2.2.2-1", "9111-5.2.2.8-1")
async def test_forbidding_concerns_only_stale_responses(control: str) -> None:
    async with cache_site() as site:
        await stored_and_stale(site, control, later=9)

        assert await site.is_hit()


@pytest.mark.parametrize("failure", [reset(), hang()], ids=["reset", "silence"])
@pytest.mark.parametrize("control", ["max-age=10", "max-age=10, stale-if-error=0", "max-age=10, stale-if-error=x"])
@pytest.mark.requirement("9111-4.2.4-2", "9111-4-5")
async def test_stale_response_that_nothing_permits_is_not_sent(control: str, failure: Step) -> None:
    async with cache_site(route=TIMEOUT) as site:
        await stored_and_stale(site, control)
        site.upstream.on("*", failure)

        assert (await site.get()).status in (502, 504)


@pytest.mark.requirement("9111-4.2.4-2", "9111-4-5")
async def test_stale_response_that_nothing_permits_is_fetched_anew() -> None:
    async with cache_site() as site:
        await stored_and_stale(site, "max-age=10")
        site.serve({"Cache-Control": "max-age=10"}, b"new")

        assert (await site.get()).body == b"new"


# --- stale-while-revalidate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "cache"),
    [
        ("max-age=10, stale-while-revalidate=60", {}),
        ('max-age=10, Stale-While-Revalidate="60"', {}),
        ("max-age=10", {"stale_while_revalidate": "60s"}),
        ("max-age=10, stale-while-revalidate=60", {"stale_while_revalidate": "1s"}),
    ],
    ids=str,
)
@pytest.mark.requirement("5861-3-1", "5861-3-2", "9111-4.2.4-2")
async def test_stale_response_is_sent_while_it_is_validated(control: str, cache: dict[str, str]) -> None:
    async with cache_site(cache) as site:
        gate = Gate()
        await stored_and_stale(site, control, ETag='"a"')
        site.upstream.on("*", gate, site.answer({"Cache-Control": control}, b"new"))

        stale = await site.get()
        await gate.reached.wait()
        meanwhile = await site.get()
        gate.open()

        assert [(each.body, each.header("Age")) for each in (stale, meanwhile)] == [(b"stored", "15")] * 2
        assert site.fills == 2
        assert site.last.header("If-None-Match") == '"a"'
        while (await site.get()).body != b"new":
            assert site.fills == 2


@pytest.mark.parametrize(
    ("control", "cache"),
    [
        ("max-age=10, stale-while-revalidate=60", {}),
        ("max-age=10", {"stale_while_revalidate": "60s"}),
        ("max-age=10, stale-while-revalidate=60", {"stale_while_revalidate": "1h"}),
        ("max-age=10, stale-while-revalidate=0", {"stale_while_revalidate": "1h"}),
        ("max-age=10, stale-while-revalidate=x", {}),
        ("max-age=10, stale-while-revalidate", {}),
    ],
    ids=str,
)
@pytest.mark.requirement("5861-3-3")
async def test_after_the_window_it_is_validated_first(control: str, cache: dict[str, str]) -> None:
    async with cache_site(cache) as site:
        await stored_and_stale(site, control, later=71)
        site.serve({}, b"new")

        assert (await site.get()).body == b"new"


@pytest.mark.requirement("5861-3-3")
async def test_window_counts_from_the_end_of_freshness_not_from_receipt() -> None:
    async with cache_site() as site:
        await stored_and_stale(site, "max-age=100, stale-while-revalidate=10", Age="95")
        site.serve({}, b"new")

        assert (await site.get()).body == b"stored"
        await asked_again(site)

    async with cache_site() as site:
        await stored_and_stale(site, "max-age=100, stale-while-revalidate=10", later=16, Age="95")
        site.serve({}, b"new")

        assert (await site.get()).body == b"new"


@pytest.mark.requirement("5861-3-1", "9110-13.1.2-1")
async def test_stale_response_answers_conditions_and_ranges_too() -> None:
    async with cache_site() as site:
        await stored_and_stale(site, "max-age=10, stale-while-revalidate=600", ETag='"a"')
        site.upstream.on("*", hang())

        assert (await site.get(headers={"If-None-Match": '"a"'})).status == 304
        assert (await site.get(headers={"Range": "bytes=0-1"})).body == b"st"
        assert (await site.ask("HEAD")).header("Age") == "15"


# --- stale-if-error -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize(
    ("control", "cache"),
    [
        ("max-age=10, stale-if-error=60", {}),
        ('max-age=10, Stale-If-Error="60"', {}),
        ("max-age=10", {"stale_if_error": "60s"}),
    ],
    ids=str,
)
@pytest.mark.requirement("5861-4-1", "9111-4.2.4-2", "9111-4.3.3-2")
async def test_stale_response_stands_in_for_an_error(control: str, cache: dict[str, str], status: int) -> None:
    async with cache_site(cache) as site:
        await stored_and_stale(site, control, ETag='"a"')
        site.serve({}, b"error", status=status)

        answer = await site.get()

        assert (answer.status, answer.body, answer.header("Age"), site.fills) == (200, b"stored", "15", 2)


@pytest.mark.parametrize("failure", IS_DOWN, ids=["reset", "silence"])
@pytest.mark.requirement("5861-4-1")
async def test_stale_response_stands_in_for_no_answer(failure: Step) -> None:
    async with cache_site(route=TIMEOUT) as site:
        await stored_and_stale(site, "max-age=10, stale-if-error=60")
        site.upstream.on("*", failure)

        answer = await site.get()

        assert (answer.status, answer.body) == (200, b"stored")


@pytest.mark.requirement("5861-4-1")
async def test_stale_response_stands_in_when_nobody_listens() -> None:
    async with cache_site() as site:
        await stored_and_stale(site, "max-age=10, stale-if-error=60")
        await site.upstream.stop()

        answer = await get(site.app.port, "/r")

        assert (answer.status, answer.body) == (200, b"stored")


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 410, 429, 501, 505])
@pytest.mark.requirement("5861-4-1", "9111-4.3.3-1")
async def test_other_statuses_are_no_errors(status: int) -> None:
    async with cache_site({"stale_if_error": "60s"}) as site:
        await stored_and_stale(site, "max-age=10, stale-if-error=60")
        site.serve({}, b"answer", status=status)

        answer = await site.get()

        assert (answer.status, answer.body) == (status, b"answer")


@pytest.mark.parametrize(
    ("control", "cache"),
    [
        ("max-age=10, stale-if-error=60", {}),
        ("max-age=10", {"stale_if_error": "60s"}),
        ("max-age=10, stale-if-error=60", {"stale_if_error": "1h"}),
        ("max-age=10, stale-if-error=0", {"stale_if_error": "1h"}),
        ("max-age=10, stale-if-error=-1", {}),
    ],
    ids=str,
)
@pytest.mark.requirement("5861-4-2")
async def test_after_the_window_the_error_is_sent(control: str, cache: dict[str, str]) -> None:
    async with cache_site(cache) as site:
        await stored_and_stale(site, control, later=71)
        site.serve({}, b"error", status=503)

        assert (await site.get()).status == 503


@pytest.mark.parametrize(("value", "status"), [("60", 200), ("1", 503)])
@pytest.mark.requirement("5861-4-3")
async def test_client_may_ask_for_a_stale_response_on_error(value: str, status: int) -> None:
    async with cache_site() as site:
        await stored_and_stale(site, "max-age=10")
        site.serve({}, b"error", status=503)

        answer = await site.get(headers={"Cache-Control": f"stale-if-error={value}"})

        assert answer.status == status


@pytest.mark.requirement("5861-4-1", "9111-4-6")
async def test_error_does_not_replace_what_is_stored() -> None:
    async with cache_site() as site:
        await stored_and_stale(site, "max-age=10, stale-if-error=600", ETag='"a"')
        site.serve({"Cache-Control": "max-age=60"}, b"error", status=500, times=2)
        site.serve({"Cache-Control": "max-age=10"}, status=304)

        bodies = [(await site.get()).body for _ in range(3)]

        assert (bodies, site.last.header("If-None-Match")) == ([b"stored"] * 3, '"a"')
