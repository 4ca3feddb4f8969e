"""Which fields of a response are stored: RFC 9111 section 3.1, RFC 9110 sections 6.6.1 and 7.6.1."""

import pytest

from tests.support.cache_site import FRESH, cache_site, own_fields
from tests.support.messages import Fields
from tests.support.steps import chunk, last_chunk

UNKNOWN: Fields = [
    ("Cache-Control", "max-age=3600"),
    ("Content-Type", "text/x-strange; a=b"),
    ("X-Unknown", "one"),
    ("x-second", "two"),
    ("X-Unknown", "three"),
    ("X-Empty", ""),
    ("X-Bytes", b"caf\xe9 \xff"),
    ("Link", "<a>; rel=next, <b>; rel=prev"),
    ("Content-Foo", "bar"),
    ("Last-Modified", "{-1000}"),
    ("ETag", 'W/"a,b"'),
    ("Warning", '199 - "old"'),
]


@pytest.mark.requirement("9111-3.1-1")
async def test_all_fields_are_stored_in_their_order_and_spelling() -> None:
    async with cache_site() as site:
        site.serve(UNKNOWN, b"body")

        first = await site.get()
        second = await site.get()

        assert site.fills == 1
        assert own_fields(second) == own_fields(first)
        assert second.body == b"body"


@pytest.mark.parametrize(
    ("connection", "field"),
    [
        ("X-Hop", "X-Hop"),
        ("x-hop, close", "X-Hop"),
        ("close, X-HOP ,", "x-hop"),
        ("keep-alive", "Keep-Alive"),
        ("close", "Proxy-Connection"),
        ("close", "TE"),
        ("close", "Keep-Alive"),
    ],
)
@pytest.mark.requirement("9111-3.1-2", "9110-7.6.1-1", "9110-7.6.1-2")
async def test_fields_of_the_hop_are_not_stored(connection: str, field: str) -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Connection": connection, field: "timeout=5"})

        first = await site.get()
        second = await site.get()

        assert site.fills == 1
        assert first.header(field) is None
        assert second.header(field) is None
        assert second.header("Connection") is None


@pytest.mark.parametrize("field", ["Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization"])
@pytest.mark.requirement("9111-3.1-3")
async def test_fields_of_a_proxys_authentication_are_not_stored(field: str) -> None:
    async with cache_site() as site:
        site.serve({**FRESH, field: 'Basic realm="x"'})

        await site.get()
        second = await site.get()

        assert site.fills == 1
        assert second.header(field) is None


@pytest.mark.requirement("9111-3.1-4")
async def test_trailers_do_not_become_header_fields() -> None:
    async with cache_site() as site:
        trailers = {"X-Trailer": "t", "ETag": '"t"', "Cache-Control": "max-age=60", "Age": "3000"}
        fields = {**FRESH, "ETag": '"h"', "Trailer": "X-Trailer", "Transfer-Encoding": "chunked"}
        site.upstream.on("*", site.frame(fields, chunk(b"body"), last_chunk(trailers)))

        await site.get()
        second = await site.get()

        assert (site.fills, second.body) == (1, b"body")
        assert (second.header("X-Trailer"), second.header("ETag"), second.header("Age")) == (None, '"h"', "0")
        assert second.header("Cache-Control") == "max-age=3600"


@pytest.mark.requirement("9111-3.1-4")
async def test_trailers_make_nothing_cacheable() -> None:
    async with cache_site() as site:
        steps = chunk(b"body"), last_chunk({"Cache-Control": "max-age=60", "Expires": site.date(60)})
        site.upstream.on("*", site.frame({"Transfer-Encoding": "chunked"}, *steps))

        await site.get()

        assert not await site.is_hit()


@pytest.mark.parametrize(
    "control",
    [
        'private="x-secret"',
        'private="X-Other, X-Secret"',
        'private=" x-other ,, x-secret "',
        "private=x-secret",
        'Private="X-SECRET"',
        'no-cache="x-secret"',
        'no-cache="X-Other,X-Secret"',
        "no-cache=X-Secret",
        'no-cache="x-other", no-cache="x-secret"',
    ],
)
@pytest.mark.requirement("9111-5.2.2.4-2", "9111-5.2.2.7-2")
async def test_fields_that_a_directive_names_are_not_reused(control: str) -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": f"{control}, max-age=3600", "X-Secret": "s", "X-Public": "p"}, b"body")

        first = await site.get()
        second = await site.get()

        assert (first.header("X-Secret"), first.header("X-Public")) == ("s", "p")
        assert (second.header("X-Secret"), second.header("X-Public")) == (None, "p")
        assert site.fills == 1


@pytest.mark.parametrize("directive", ["private", "no-cache"])
@pytest.mark.requirement("9111-5.2.2.4-2", "9111-5.2.2.7-2")
async def test_cookie_that_a_directive_names_reaches_nobody_else(directive: str) -> None:
    async with cache_site() as site:
        site.serve({"Cache-Control": f'{directive}="set-cookie", max-age=3600', "Set-Cookie": "session=1"}, times=1)
        site.serve(FRESH)

        first = await site.get()
        second = await site.get()

        assert (first.header("Set-Cookie"), second.header("Set-Cookie")) == ("session=1", None)


@pytest.mark.requirement("9110-6.6.1-1")
async def test_date_of_receipt_is_added_where_there_is_none() -> None:
    async with cache_site() as site:
        site.serve(FRESH, date=False)

        await site.get()
        received = site.date()
        site.later(100)
        second = await site.get()

        assert (site.fills, second.header("Date"), second.header("Age")) == (1, received, "100")


@pytest.mark.requirement("9111-3.1-1")
async def test_date_of_the_upstream_is_kept() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Date": "{-5}"})

        await site.get()
        sent = site.date(-5)
        site.later(100)

        assert (await site.get()).header("Date") == sent


@pytest.mark.requirement("9111-4-6")
async def test_age_that_was_received_is_replaced() -> None:
    async with cache_site() as site:
        site.serve([("Age", "100"), *FRESH.items()])

        await site.get()
        site.later(7)
        second = await site.get()

        assert (second.header("Age"), site.fills) == ("107", 1)


async def test_hit_of_a_chunked_response_has_its_length() -> None:
    async with cache_site() as site:
        fields = {**FRESH, "Transfer-Encoding": "chunked"}
        site.upstream.on("*", site.frame(fields, chunk(b"one"), chunk(b"two"), last_chunk()))

        first = await site.get()
        second = await site.get()

        assert first.body == second.body == b"onetwo"
        assert (second.header("Content-Length"), second.header("Transfer-Encoding"), site.fills) == ("6", None, 1)
