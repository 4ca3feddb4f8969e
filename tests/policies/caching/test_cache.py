"""The cache as a layer: what is answered from what is stored, and what is asked of the upstream instead."""

import pytest

from proxy.errors import ConnectionRefused, NotCached
from tests.support.cache_layer import FRESH, CacheLayer, reply, validated, versions
from tests.support.exchange import Outcome

pytestmark = [pytest.mark.usefixtures("leak_check")]

TAGGED = {"Cache-Control": "max-age=10", "ETag": '"1"'}
DOWN = ConnectionRefused()


# --- hits and misses ------------------------------------------------------------------------------------------------


async def test_fresh_response_is_sent_without_asking() -> None:
    site = CacheLayer(versions(FRESH))

    first = await site.get()
    site.later(5)
    second = await site.get()

    assert (first.body, first.said, first.field("Age")) == (b"1", "fwd=uri-miss;fwd-status=200;stored", None)
    assert (second.body, second.said, second.field("Age")) == (b"1", "hit;ttl=55", "5")
    assert (site.fetches, site.is_at_rest) == (1, True)
    assert (first.exchange.cache_outcome, second.exchange.cache_outcome) == ("miss", "hit")
    assert (site.metrics.hits, site.metrics.outcomes) == (1, {("enforce", "miss"): 1})
    assert site.metrics.served_bytes == 1


async def test_stale_response_without_any_leave_is_fetched_anew() -> None:
    site = CacheLayer(versions(FRESH))

    await site.get()
    site.later(60)
    answer = await site.get()

    assert (answer.body, answer.said) == (b"2", "fwd=stale;fwd-status=200;stored")


async def test_stale_response_with_a_validator_is_validated() -> None:
    site = CacheLayer(validated(TAGGED, {"ETag": '"1"', "Cache-Control": "max-age=20", "X-New": "1"}))

    await site.get()
    site.later(11)
    answer = await site.get()
    site.later(15)
    hit = await site.get()

    assert site.fetched()["if-none-match"] == '"1"'
    assert (answer.status, answer.body, answer.said) == (200, b"body", "fwd=stale;fwd-status=304;stored")
    assert (answer.field("Age"), answer.field("X-New")) == (None, "1"), "it has been validated just now"
    assert answer.exchange.cache_outcome == "revalidated"
    assert (hit.said, hit.field("Age"), hit.field("X-New")) == ("hit;ttl=5", "15", "1")
    assert site.metrics.fills == {("miss", "stored"): 1, ("validate", "updated"): 1}


async def test_304_that_forbids_storing_leaves_what_is_stored_stale() -> None:
    site = CacheLayer(validated(TAGGED, {"ETag": '"1"', "Cache-Control": "no-store, max-age=60"}))

    await site.get()
    site.later(11)
    answer = await site.get()
    again = await site.get()

    assert answer.body == again.body == b"body"
    assert answer.said == 'fwd=stale;fwd-status=304;detail="no_store"'
    assert site.fetches == 3


async def test_304_that_selects_nothing_has_it_fetched_whole() -> None:
    whole, other = reply(TAGGED, b"old"), reply({"ETag": '"2"'}, status=304)
    site = CacheLayer(whole, other, reply({**FRESH, "ETag": '"2"'}, b"new"))

    await site.get()
    site.later(11)
    answer = await site.get()

    assert (answer.status, answer.body, site.fetches) == (200, b"new", 3)
    assert "if-none-match" not in site.fetched()
    assert (await site.get()).said == "hit;ttl=60"


async def test_upstream_that_always_answers_for_another_response_is_asked_without_conditions_once() -> None:
    site = CacheLayer(reply(TAGGED, b"old"), reply({"ETag": '"2"'}, status=304))

    await site.get()
    site.later(11)

    assert (await site.get()).status == 304, "nobody can make sense of such an upstream"
    assert site.fetches == 3


async def test_only_if_cached_asks_nobody() -> None:
    site = CacheLayer(versions(FRESH), query=("page",))

    for target in ("/r", "/r?other=1"):
        with pytest.raises(NotCached):
            await site.get(target, cache_control="only-if-cached")
    with pytest.raises(NotCached):
        await site.ask("HEAD", "/r", {"Cache-Control": "only-if-cached"})
    assert site.fetches == 0
    await site.get()
    assert (await site.get(cache_control="only-if-cached")).said == "hit;ttl=60"
    assert (await site.ask("HEAD", "/r", {"Cache-Control": "only-if-cached"})).said == "hit;ttl=60"


@pytest.mark.parametrize(
    ("asked", "age", "is_hit"),
    [
        ("no-cache", 0, False),
        ("max-age=5", 5, True),
        ("max-age=5", 6, False),
        ("max-age=0", 0, False),
        ("min-fresh=50", 10, True),
        ("min-fresh=50", 11, False),
        ("max-stale=10", 65, True),
        ("max-stale=10", 71, False),
        ("max-stale", 500, True),
        ("no-store", 5, True),
    ],
)
async def test_directives_of_the_request_are_heeded(asked: str, age: int, is_hit: bool) -> None:
    site = CacheLayer(versions(FRESH))

    await site.get()
    site.later(age)
    answer = await site.get(cache_control=asked)

    assert site.fetches == (1 if is_hit else 2)
    assert answer.said.startswith("hit" if is_hit else "fwd=")


async def test_pragma_is_no_cache_where_there_is_nothing_else() -> None:
    site = CacheLayer(versions(FRESH))

    await site.get()

    assert (await site.get(pragma="no-cache")).said == "fwd=request;fwd-status=200;stored"
    assert (await site.get()).body == b"2"


async def test_response_to_a_request_with_no_store_is_not_stored() -> None:
    site = CacheLayer(versions(FRESH))

    answer = await site.get(cache_control="no-store")

    assert answer.said == 'fwd=uri-miss;fwd-status=200;detail="request_no_store"'
    assert (await site.get()).body == b"2"


# --- what passes by -------------------------------------------------------------------------------------------------


async def test_other_methods_bodies_and_unknown_parameters_pass_by() -> None:
    site = CacheLayer(versions(FRESH), query=("page",))

    for method, target, body, said in (
        ("OPTIONS", "/r", None, "fwd=method"),
        ("GET", "/r", b"x", 'fwd=bypass;detail="body"'),
        ("HEAD", "/r", b"x", 'fwd=bypass;detail="body"'),
        ("GET", "/r?other=1", None, 'fwd=bypass;detail="query"'),
        ("HEAD", "/r?other=1", None, 'fwd=bypass;detail="query"'),
    ):
        answer = await site.ask(method, target, body=body)
        assert (answer.said, answer.exchange.cache_outcome) == (said, "bypass")
    assert site.metrics.bypasses == {"method": 1, "body": 2, "query": 2}
    assert (site.store.memory.entries, site.is_at_rest) == (0, True)


async def test_upgrade_is_left_alone() -> None:
    site = CacheLayer(reply({}, b"x"))
    exchange = site.exchange()
    exchange.request.upgrade = True

    assert (await site.send(exchange)).field("Cache-Status") is None


async def test_ignored_parameters_are_neither_in_the_key_nor_sent_on() -> None:
    site = CacheLayer(versions(FRESH), ignore_query=("utm_source",))

    await site.get("/r?utm_source=a&page=1")

    assert site.upstream.exchanges[0].request.target == "/r?page=1"
    assert (await site.get("/r?page=1&utm_source=b")).said == "hit;ttl=60"


async def test_fill_carries_no_other_name_for_the_target() -> None:
    site = CacheLayer(versions(FRESH))

    await site.get(x_original_url="/secret", x_http_method_override="DELETE")

    assert set(site.fetched()) == {"host"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_surrogate_control_is_heeded_and_goes_no_further(method: str) -> None:
    site = CacheLayer(reply({"Surrogate-Control": "max-age=600", "Cache-Control": "max-age=1"}, b"x"))

    first = await site.ask(method)
    await site.get()
    site.later(500)
    hit = await site.get()

    assert first.field("Surrogate-Control") is hit.field("Surrogate-Control") is None
    assert hit.said == "hit;ttl=100"


# --- who gets what --------------------------------------------------------------------------------------------------


async def test_users_have_responses_of_their_own() -> None:
    site = CacheLayer(versions({"Cache-Control": "private, max-age=60"}), per_user="header:X-User-ID")

    ada, bob = await site.get(x_user_id="ada"), await site.get(x_user_id="bob")

    assert (ada.body, bob.body) == (b"1", b"2")
    assert (await site.get(x_user_id="ada")).body == b"1"
    nobody = await site.get()
    assert (nobody.body, nobody.said) == (b"3", 'fwd=bypass;detail="user"')
    with pytest.raises(NotCached):
        await site.get(cache_control="only-if-cached")


@pytest.mark.parametrize("field", [{"authorization": "Bearer x"}, {"cookie": "a=b"}])
@pytest.mark.parametrize(
    ("control", "is_shared"),
    [("max-age=60", False), ("public, max-age=60", True), ("s-maxage=60", True), ("private, max-age=60", False)],
)
async def test_response_to_credentials_is_shared_only_if_it_says_so(
    field: dict[str, str], control: str, is_shared: bool
) -> None:
    site = CacheLayer(versions({"Cache-Control": control}))

    await site.get(**field)

    assert (await site.get()).body == (b"1" if is_shared else b"2")


async def test_who_has_credentials_is_answered_from_what_is_stored_for_all() -> None:
    site = CacheLayer(versions(FRESH))

    await site.get()

    assert (await site.get(cookie="a=b")).said == "hit;ttl=60"


async def test_variants_are_told_apart() -> None:
    site = CacheLayer(versions({**FRESH, "Vary": "X-One"}))

    one, two = await site.get(x_one="1"), await site.get(x_one="2")

    assert (one.said, two.said) == ("fwd=uri-miss;fwd-status=200;stored", "fwd=vary-miss;fwd-status=200;stored")
    assert [(await site.get(x_one=value)).body for value in ("1", "2")] == [b"1", b"2"]


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-real-ip", "Accept, X-Request-ID"])
async def test_response_that_depends_on_the_client_s_address_is_not_stored(name: str) -> None:
    """What we add for the upstream is in no client's request: all would be shown the first one's response."""
    site = CacheLayer(versions({**FRESH, "Vary": name}))

    answer = await site.get()

    assert answer.said == 'fwd=uri-miss;fwd-status=200;detail="vary"'
    assert (await site.get()).body == b"2"


async def test_vary_on_what_is_in_the_key_is_no_hindrance() -> None:
    site = CacheLayer(versions({**FRESH, "Vary": "X-Forwarded-Proto"}))

    await site.get()

    assert (await site.get()).said == "hit;ttl=60"


async def test_set_cookie_is_stored_only_where_the_route_says_so() -> None:
    for option, body in (("refuse", b"2"), ("store", b"1")):
        site = CacheLayer(versions({**FRESH, "Set-Cookie": "a=b"}), set_cookie=option)
        await site.get()
        assert (await site.get()).body == body


async def test_errors_are_kept_for_as_long_as_the_route_says() -> None:
    site = CacheLayer(versions({}, status=404), negative_ttl="10s")

    await site.get()
    site.later(9)
    assert (await site.get()).said == "hit;ttl=1"
    site.later(1)
    assert (await site.get()).body == b"2"


async def test_too_long_a_response_is_not_kept() -> None:
    site = CacheLayer(reply(FRESH, b"x" * 101), reply(FRESH, b"x" * 100), max_body=100)

    first, second = await site.get(), await site.get()

    assert (len(first.body), first.said) == (101, 'fwd=uri-miss;fwd-status=200;detail="too_large"')
    assert (len(second.body), site.store.memory.entries) == (100, 1)
    assert site.metrics.refusals == {"too_large": 1}


# --- conditions and ranges ------------------------------------------------------------------------------------------


async def test_conditions_are_answered_from_what_is_stored() -> None:
    site = CacheLayer(reply({**FRESH, "ETag": '"1"'}, b"body"))

    await site.get()

    assert (await site.get(if_none_match='"1"')).status == 304
    assert (await site.get(if_none_match='"2"')).status == 200
    assert site.fetches == 1


async def test_condition_of_a_client_goes_on_where_there_is_nothing_and_is_for_it_alone() -> None:
    site = CacheLayer(reply({"ETag": '"7"'}, status=304))

    answer = await site.get(if_none_match='"7"')

    assert (answer.status, site.fetched()["if-none-match"]) == (304, '"7"')
    assert answer.said == 'fwd=uri-miss;fwd-status=304;detail="status"'


async def test_clients_that_have_what_is_not_stored_do_not_keep_it_from_being_stored() -> None:
    site = CacheLayer(validated(TAGGED, {"ETag": '"1"'}))

    answers = [await site.get(if_none_match='"1"') for _ in range(3)]

    assert [answer.status for answer in answers] == [304, 304, 304]
    assert [answer.said for answer in answers[1:]] == ["fwd=uri-miss;fwd-status=200;stored", "hit;ttl=10"]
    assert site.fetches == 2
    assert "if-none-match" not in site.fetched()


async def test_condition_is_judged_by_what_a_validation_brings() -> None:
    site = CacheLayer(reply(TAGGED, b"old"), reply({**FRESH, "ETag": '"2"'}, b"new"))

    await site.get()
    site.later(11)
    answer = await site.get(if_none_match='"2"')

    assert site.fetched()["if-none-match"] == '"1"'
    assert (answer.status, answer.field("ETag"), answer.said) == (304, '"2"', "fwd=stale;fwd-status=200;stored")


async def test_condition_and_no_cache_are_answered_after_a_validation() -> None:
    site = CacheLayer(validated(TAGGED, {"ETag": '"1"'}))

    await site.get()
    answer = await site.get(if_none_match='"1"', cache_control="no-cache")

    assert (answer.status, site.fetches) == (304, 2)


async def test_ranges_are_cut_from_what_is_stored() -> None:
    site = CacheLayer(reply({**FRESH, "ETag": '"1"'}, b"0123456789"))

    await site.get()
    answer = await site.get(range="bytes=2-4")

    assert (answer.status, answer.body, answer.field("Content-Range")) == (206, b"234", "bytes 2-4/10")


def part(first: int, last: int, whole: bytes = b"0123456789") -> Outcome:
    fields = {
        "Cache-Control": "max-age=60",
        "ETag": '"1"',
        "Content-Range": f"bytes {first}-{last}/{len(whole)}",
        "Content-Length": str(last - first + 1),
    }
    return reply(fields, whole[first : last + 1], status=206)


async def test_parts_are_kept_and_joined() -> None:
    site = CacheLayer(part(0, 4), part(5, 9))

    first = await site.get(range="bytes=0-4")
    assert (first.status, first.body, site.fetched()["range"]) == (206, b"01234", "bytes=0-4")
    assert (await site.get(range="bytes=1-3")).body == b"123"
    rest = await site.get(range="bytes=5-9")
    assert (rest.body, rest.said) == (b"56789", "fwd=partial;fwd-status=206;stored")

    whole = await site.get()
    assert (whole.status, whole.body, whole.said) == (200, b"0123456789", "hit;ttl=60")


async def test_whole_response_is_fetched_where_only_a_part_is_stored() -> None:
    site = CacheLayer(part(0, 4), reply({**FRESH, "ETag": '"1"'}, b"0123456789"))

    await site.get(range="bytes=0-4")
    answer = await site.get()

    assert (answer.status, answer.body, answer.said) == (200, b"0123456789", "fwd=partial;fwd-status=200;stored")


async def test_stale_part_is_no_reason_to_drop_the_range() -> None:
    site = CacheLayer(part(0, 4), part(0, 4))

    await site.get(range="bytes=0-4")
    site.later(61)
    answer = await site.get(range="bytes=0-4")

    assert (answer.status, site.fetched()["range"]) == (206, "bytes=0-4")


async def test_failure_has_no_part_of_a_response_in_its_place() -> None:
    site = CacheLayer(part(0, 4), DOWN, stale_if_error="1h")

    await site.get(range="bytes=0-4")
    site.later(61)

    with pytest.raises(ConnectionRefused):
        await site.get(range="bytes=0-4")
