"""What the cache says of itself: RFC 9211."""

import asyncio
import re

import pytest

from tests.support.cache_site import FRESH, PATH, cache_site, cache_status
from tests.support.client import RawClient
from tests.support.steps import Gate

TEN = {"Cache-Control": "max-age=10", "ETag": '"a"'}
_VALUE = r'-?\d{1,15}|[A-Za-z*][A-Za-z0-9!#$%&\'*+.^_`|~:/-]*|"[^"\\]*"|\?[01]'
_MEMBER = re.compile(rf"tidegate(; ?[a-z][a-z0-9_.*-]*(=({_VALUE}))?)*")


@pytest.mark.parametrize(
    ("later", "request_fields", "ttl"),
    [
        (0, {}, "10"),
        (3, {}, "7"),
        (9, {}, "1"),
        (3, {"If-None-Match": '"a"'}, "7"),
        (3, {"Range": "bytes=0-1"}, "7"),
        (15, {"Cache-Control": "max-stale"}, "-5"),
    ],
    ids=str,
)
@pytest.mark.requirement("9211-2.1-1", "9211-2.4-1", "9211-2-1")
async def test_hit_says_how_long_it_is_fresh(later: float, request_fields: dict[str, str], ttl: str) -> None:
    async with cache_site() as site:
        await site.stored(TEN)
        site.later(later)

        status = cache_status(await site.get(headers=request_fields))

        assert (status.pop("hit"), status.pop("ttl")) == ("?1", ttl)
        assert status.keys() <= {"key", "detail"}


@pytest.mark.parametrize(
    ("stored", "later", "request_fields", "method", "reason"),
    [
        (False, 0, {}, "GET", "uri-miss"),
        (False, 0, {}, "HEAD", "uri-miss"),
        (True, 0, {"X-One": "1"}, "GET", "vary-miss"),
        (True, 11, {}, "GET", "stale"),
        (True, 0, {"Cache-Control": "no-cache"}, "GET", "request"),
        (True, 5, {"Cache-Control": "max-age=4"}, "GET", "request"),
        (True, 5, {"Cache-Control": "min-fresh=60"}, "GET", "request"),
        (True, 0, {}, "POST", "method"),
        (True, 0, {}, "DELETE", "method"),
    ],
    ids=str,
)
@pytest.mark.requirement("9211-2.2-1", "9211-2.1-1")
async def test_forwarded_request_says_why(
    stored: bool, later: float, request_fields: dict[str, str], method: str, reason: str
) -> None:
    async with cache_site() as site:
        site.serve({**TEN, "Vary": "X-One"})
        if stored:
            await site.get()
        site.later(later)

        status = cache_status(await site.ask(method, headers=request_fields))

        assert status["fwd"] == reason
        assert status.keys().isdisjoint({"hit", "ttl", "collapsed"} if status.get("stored") != "?1" else {"hit"})


@pytest.mark.requirement("9211-2.2-1")
async def test_part_that_does_not_do_is_a_reason() -> None:
    async with cache_site() as site:
        fields = {**FRESH, "ETag": '"a"'}
        site.serve({**fields, "Content-Range": "bytes 0-4/10"}, b"01234", status=206, times=1)
        site.serve(fields, b"0123456789")

        await site.get(headers={"Range": "bytes=0-4"})
        status = cache_status(await site.get())

        assert status["fwd"] in ("partial", "uri-miss", "miss")


@pytest.mark.requirement("9211-2.2-1")
async def test_bypass_says_so() -> None:
    async with cache_site({"query": ["page"]}) as site:
        site.serve(FRESH)

        assert cache_status(await site.get("/r?page=1&other=2"))["fwd"] == "bypass"
        assert cache_status(await site.get("/r?page=1"))["fwd"] == "uri-miss"


@pytest.mark.parametrize(
    ("answer", "stored"), [(TEN, True), ({"Cache-Control": "no-store"}, False), ({**TEN, "Set-Cookie": "a=b"}, False)]
)
@pytest.mark.requirement("9211-2.5-1")
async def test_miss_says_whether_it_was_stored(answer: dict[str, str], stored: bool) -> None:
    async with cache_site() as site:
        site.serve(answer)

        assert (cache_status(await site.get()).get("stored", "?0") == "?1") is stored


@pytest.mark.requirement("9211-2.3-1", "9211-2.5-1")
async def test_validation_gives_the_status_of_the_upstream() -> None:
    async with cache_site() as site:
        site.revalidate(TEN, TEN)

        await site.get()
        site.later(11)
        status = cache_status(await site.get())

        assert (status["fwd"], status["fwd-status"]) == ("stale", "304")


@pytest.mark.requirement("9211-2.3-1")
async def test_status_of_the_upstream_is_never_wrong() -> None:
    async with cache_site() as site:
        await site.stored(TEN)
        site.later(11)
        site.serve({}, status=404)

        answer = await site.get()

        assert cache_status(answer).get("fwd-status", "404") == "404"


@pytest.mark.requirement("9211-2.6-1")
async def test_collapsed_request_says_so() -> None:
    async with cache_site() as site:
        gate = Gate()
        site.upstream.on("*", gate, site.answer(FRESH))

        first = asyncio.ensure_future(site.get())
        await gate.reached.wait()
        async with RawClient(site.app.port) as client:
            await client.send_request("GET", PATH)
            await asyncio.sleep(0.05)
            gate.open()
            second = await client.read_response()

        assert "collapsed" not in cache_status(await first)
        status = cache_status(second)
        assert (status.get("collapsed"), status.get("fwd"), site.fills) == ("?1", "uri-miss", 1)


@pytest.mark.parametrize("existing", ["ExampleCache; hit", 'Origin; fwd=uri-miss; stored, "CDN, Inc."; hit; ttl=5'])
@pytest.mark.requirement("9211-2-2", "9211-2-1")
async def test_other_caches_come_first(existing: str) -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Cache-Status": existing})

        for answer in (await site.get(), await site.get(), await site.ask("POST")):
            value = ", ".join(answer.header_list("Cache-Status"))
            assert value.startswith(existing + ", ")
            assert _MEMBER.fullmatch(value.removeprefix(existing + ", "))


@pytest.mark.requirement("9211-2-3")
async def test_answers_that_no_cache_had_a_part_in_have_no_member() -> None:
    routes = [{"name": "cached", "match": "* /cached", "cache": {}}, {"name": "plain", "match": "GET /plain"}]
    async with cache_site(routes=routes) as site:
        plain = await site.get("/plain")
        missing = await site.get("/nowhere")
        await site.upstream.stop()
        failed = await site.get("/cached")

    assert [plain.status, missing.status, failed.status] == [200, 404, 502]
    assert [each.header("Cache-Status") for each in (plain, missing, failed)] == [None] * 3


@pytest.mark.requirement("9211-2.1-1", "9211-2.4-1")
async def test_stale_response_for_an_error_is_a_hit_or_forwarded() -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=10, stale-if-error=60"})
        site.later(15)
        site.serve({}, status=503)

        status = cache_status(await site.get())

        assert ("hit" in status) != ("fwd" in status)
        assert status.get("ttl", "-5") == "-5"
        assert status.get("fwd-status", "503") == "503"
