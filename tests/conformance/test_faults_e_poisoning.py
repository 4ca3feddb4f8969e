"""Nothing that a client sends beside the key shows in what others get (faults E02 and E03)."""

import json
from itertools import permutations

import pytest

from tests.support.cache_site import FRESH, PATH, CacheSite, cache_site
from tests.support.client import RawClient, request_bytes
from tests.support.steps import Turn, reply

EVIL = "evil.example"
DROPPED = [
    *("X-Forwarded-Host", "X-Forwarded-Scheme", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Original-URL"),
    *("X-Rewrite-URL", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "Forwarded"),
]


def serve_mirror(site: CacheSite, fields: dict[str, str] | None = None) -> None:
    """An upstream that builds all that it saw into its page, and lets it be stored."""

    async def step(turn: Turn) -> None:
        request = turn.request
        seen = {name.lower(): request.header_list(name) for name in request.names()}
        page = {
            "method": request.method,
            "target": request.target,
            "fields": seen,
            "body": request.body.decode("latin-1"),
        }
        await site.answer({**FRESH, **(fields or {})}, json.dumps(page).encode())(turn)

    site.upstream.on("*", step)


@pytest.mark.parametrize("value", [EVIL, f"host={EVIL};proto=https", "DELETE", "https", "1337"])
@pytest.mark.parametrize("name", DROPPED)
async def test_e02_steering_fields_do_not_reach_what_is_stored(name: str, value: str) -> None:
    async with cache_site() as site:
        serve_mirror(site)

        poisoned = await site.get(headers={name: value, "Host": "api.example"})
        clean = await site.get(headers={"Host": "api.example"})

        assert value.encode() not in poisoned.body.replace(b'"127.0.0.1', b"")
        assert value.encode() not in clean.body
        assert site.fills == 1


@pytest.mark.parametrize("name", ["x-forwarded-host", "X-FORWARDED-HOST", "x-oRiGiNaL-uRl", "FORWARDED"])
async def test_e02_spelling_of_steering_fields_does_not_matter(name: str) -> None:
    async with cache_site() as site:
        serve_mirror(site)

        await site.get(headers=[(name, EVIL), ("X-Other", "1"), (name, EVIL)])

        assert EVIL.encode() not in (await site.get()).body


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Scheme", "Forwarded"]
)
async def test_e02_steering_fields_of_a_trusted_proxy_are_in_the_key_or_nowhere(name: str) -> None:
    values = {"X-Forwarded-Proto": "https", "X-Forwarded-Scheme": "https", "X-Forwarded-Port": "1337"}
    value = values.get(name, f"host={EVIL};proto=https" if name == "Forwarded" else EVIL)
    async with cache_site(server={"trusted_proxies": ["127.0.0.1"]}) as site:
        serve_mirror(site)

        await site.get(headers={name: value, "Host": "api.example"})
        clean = await site.get(headers={"Host": "api.example"})

        for wrong in (EVIL, "1337", "https"):
            assert wrong.encode() not in clean.body


async def test_e02_redirect_to_https_is_not_given_to_those_who_use_it() -> None:
    async with cache_site(server={"trusted_proxies": ["127.0.0.1"]}) as site:

        async def step(turn: Turn) -> None:
            if turn.request.header("X-Forwarded-Proto") == "https":
                await reply(200, FRESH, b"page")(turn)
            else:
                await reply(301, {**FRESH, "Location": "https://api.example/r"})(turn)

        site.upstream.on("*", step)

        statuses = [
            (await site.get(headers={"X-Forwarded-Proto": proto, "Host": "api.example"})).status
            for proto in ("http", "https", "http", "https")
        ]

        assert statuses == [301, 200, 301, 200]


async def test_e02_host_is_in_the_key() -> None:
    async with cache_site() as site:
        serve_mirror(site)

        await site.get(headers={"Host": EVIL})

        assert EVIL.encode() not in (await site.get(headers={"Host": "api.example"})).body


async def test_e02_port_of_host_is_in_the_key() -> None:
    async with cache_site() as site:
        serve_mirror(site)

        await site.get(headers={"Host": "api.example:1337"})

        assert b"1337" not in (await site.get(headers={"Host": "api.example"})).body


async def test_e02_absolute_form_with_another_host_is_no_way_around() -> None:
    async with cache_site() as site:
        serve_mirror(site)

        async with RawClient(site.app.port) as client:
            await client.send(request_bytes("GET", f"http://{EVIL}{PATH}", {"Host": "api.example"}))
            await client.read_response()

        assert EVIL.encode() not in (await site.get(headers={"Host": "api.example"})).body


@pytest.mark.parametrize(
    ("name", "value", "fields"),
    [
        ("Origin", f"https://{EVIL}", {"Access-Control-Allow-Origin": f"https://{EVIL}"}),
        ("Accept-Encoding", "br;evil", {"Content-Encoding": "br"}),
        ("Accept-Language", "xx-evil", {"Content-Language": "xx-evil"}),
    ],
)
async def test_e02_negotiated_answers_are_kept_apart_though_vary_is_missing(
    name: str, value: str, fields: dict[str, str]
) -> None:
    async with cache_site() as site:

        async def step(turn: Turn) -> None:
            asked = turn.request.header(name)
            await reply(200, {**FRESH, **(fields if asked == value else {})}, (asked or "clean").encode())(turn)

        site.upstream.on("*", step)

        poisoned = await site.get(headers={name: value})
        clean = await site.get()
        again = await site.get(headers={name: value})

        assert (poisoned.body, clean.body, again.body) == (value.encode(), b"clean", value.encode())


@pytest.mark.parametrize("condition", [{"Range": "bytes=0-1"}, {"Range": "bytes=0-1", "If-Range": '"a"'}])
async def test_e02_range_of_one_client_is_not_the_answer_for_others(condition: dict[str, str]) -> None:
    async with cache_site() as site:

        async def step(turn: Turn) -> None:
            if turn.request.header("Range"):
                await reply(200, {**FRESH, "ETag": '"a"'}, b"ev")(turn)  # an upstream that forgets to say 206
            else:
                await reply(200, {**FRESH, "ETag": '"a"'}, b"clean")(turn)

        site.upstream.on("*", step)

        await site.get(headers=condition)

        assert (await site.get()).body == b"clean"


@pytest.mark.parametrize("name", ["If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"])
async def test_e02_condition_of_one_client_is_not_the_answer_for_others(name: str) -> None:
    async with cache_site() as site:

        async def step(turn: Turn) -> None:
            status = 200 if turn.request.header(name) is None else 412
            await reply(status, FRESH, b"clean" if status == 200 else b"evil")(turn)

        site.upstream.on("*", step)

        await site.get(headers={name: '"evil"' if "Match" in name else "{+0}"})

        assert (await site.get()).body == b"clean"


# --- E03 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"evil=1", b"", b"x" * 100_000])
async def test_e03_get_with_a_body_is_not_the_answer_for_others(body: bytes) -> None:
    async with cache_site() as site:
        serve_mirror(site)

        await site.ask("GET", body=body)
        clean = await site.get()

        assert clean.json()["body"] == ""


async def test_e03_get_with_a_chunked_body_is_not_the_answer_for_others() -> None:
    async with cache_site() as site:
        serve_mirror(site)

        async with RawClient(site.app.port) as client:
            await client.send(request_bytes("GET", PATH, {"Transfer-Encoding": "chunked"}) + b"4\r\nevil\r\n0\r\n\r\n")
            await client.read_response()

        assert b"evil" not in (await site.get()).body


TARGETS = [
    "/r",
    "/r?",
    "/r?a",
    "/r?a=",
    "/r?a=1",
    "/r?a=1&a=2",
    "/r?a=2&a=1",
    "/r?a=2",
    "/r?a=1;a=2",
    "/r?a=1;b=2",
    "/r?a=1&b=2",
    "/r?b=2&a=1",
    "/r?a=1&b=2&",
    "/r?&a=1&b=2",
    "/r?a=1%26b=2",
    "/r?a=1%3Bb=2",
    "/r?a=1|b=2",
    "/r?a=1%7Cb=2",
    "/r?a=1%7cb=2",
    "/r?a%3D1=2",
    "/r?a=1%00",
    "/r?a=1%0A",
    "/r?a=1%0D%0A",
    "/r?A=1",
    "/r?a=%31",
    "/r?a=+1",
    "/r?a=%201",
    "/r%3Fa=1",
    "/r|a=1",
    "/r%7Ca=1",
    "/r%0Aa",
    "/r;a=1",
    "/r/",
    "/R",
    "/%72",
    "/r%20",
    "//r",
]


async def test_e03_targets_that_differ_do_not_collide() -> None:
    async with cache_site() as site:
        serve_mirror(site)

        for target in [*TARGETS, *reversed(TARGETS)]:
            answer = await site.get(target)
            if answer.status == 200:
                assert answer.json()["target"] == target
            else:
                assert answer.status in (400, 404)


@pytest.mark.parametrize("settings", [{"query": ["a", "b"]}, {"query": ["a", "b"], "ignore_query": ["utm_source"]}])
async def test_e03_declared_parameters_do_not_collide(settings: dict[str, object]) -> None:
    async with cache_site(settings) as site:
        serve_mirror(site)

        for target in [*TARGETS, *reversed(TARGETS)]:
            answer = await site.get(target)
            if answer.status == 200:
                got = answer.json()["target"]
                assert sorted(got.partition("?")[2].split("&")) == sorted(target.partition("?")[2].split("&"))
                assert got.partition("?")[0] == target.partition("?")[0]


@pytest.mark.parametrize(
    "target",
    [
        "/r?utm_source=evil",
        "/r?a=1&utm_source=evil",
        "/r?utm_source=evil&a=1",
        "/r?utm_source=evil&a=1&utm_source=evil",
    ],
)
async def test_e03_ignored_parameters_reach_neither_the_upstream_nor_others(target: str) -> None:
    async with cache_site({"ignore_query": ["utm_source"]}) as site:
        serve_mirror(site)

        poisoned = await site.get(target)
        clean = await site.get("/r?a=1" if "a=1" in target else "/r")

        assert b"evil" not in poisoned.body + clean.body
        assert site.fills == 1


@pytest.mark.parametrize(
    "target",
    [
        "/r?a=1;utm_source=evil",
        "/r?utm%5Fsource=evil",
        "/r?UTM_SOURCE=evil",
        "/r?a=1&utm_source%3Devil",
        "/r?utm_sourcex=evil",
        "/r?x=evil",
        "/r?a=1?utm_source=evil",
    ],
)
@pytest.mark.parametrize(
    "cache", [{}, {"ignore_query": ["utm_source"]}, {"query": ["a"], "ignore_query": ["utm_source"]}]
)
async def test_e03_what_only_looks_like_an_ignored_parameter_is_in_the_key(
    target: str, cache: dict[str, object]
) -> None:
    async with cache_site(cache) as site:
        serve_mirror(site)

        await site.get(target)

        for clean in ("/r", "/r?a=1"):
            assert b"evil" not in (await site.get(clean)).body


VALUES = ["a", "a,b", "a|b", "a;b", "a\tb", "a b", '"a,b"', "a\xff", "%00", "a%00b", "a:b", ""]


async def test_e03_values_of_fields_that_vary_do_not_collide() -> None:
    async with cache_site() as site:

        async def step(turn: Turn) -> None:
            seen = [turn.request.header(name) for name in ("X-One", "X-Two")]
            await reply(200, {**FRESH, "Vary": "X-One, X-Two"}, json.dumps(seen).encode())(turn)

        site.upstream.on("*", step)
        pairs = list(permutations(VALUES, 2))[:60]

        for one, two in [*pairs, *reversed(pairs)]:
            answer = await site.get(headers={"X-One": one, "X-Two": two})
            assert answer.json() == [one, two]
