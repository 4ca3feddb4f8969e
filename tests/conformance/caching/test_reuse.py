"""Which requests a stored response may answer: URI, method and the most recent of several (RFC 9111 section 4)."""

import pytest

from tests.support.cache_site import FRESH, PATH, cache_site
from tests.support.client import RawClient, request_bytes
from tests.support.steps import Gate, chunk, hang, tunnel


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("/a", "/b"),
        ("/a", "/A"),
        ("/a", "/a/"),
        ("/a", "/a?"),
        ("/a", "/a?x"),
        ("/a?x=1", "/a?x=2"),
        ("/a?x=1", "/a?X=1"),
        ("/a?x=1&y=2", "/a?x=1&y=2&z=3"),
        ("/a?x=1&y=2", "/a?x=1;y=2"),
        ("/a%2Fb", "/a/b"),
        ("/a%3Fb", "/a?b"),
        ("/a;x", "/a"),
        ("/a?x=1", "/a?x=%31%20"),
        ("/a//b", "/a/b"),
    ],
)
@pytest.mark.requirement("9111-4-1")
async def test_another_uri_is_not_answered(stored: str, asked: str) -> None:
    async with cache_site() as site:
        site.serve(FRESH)

        await site.get(stored)
        await site.get(asked)

        assert [each.target for each in site.upstream.requests] == [stored, asked]
        assert await site.is_hit(stored)
        assert await site.is_hit(asked)


@pytest.mark.parametrize("host", ["other.example", "localhost:81", "localhost.example", "localhost."])
@pytest.mark.requirement("9111-4-1")
async def test_another_authority_is_not_answered(host: str) -> None:
    async with cache_site() as site:
        site.serve(FRESH)

        await site.get(headers={"Host": "localhost"})

        assert not await site.is_hit(headers={"Host": host})
        assert await site.is_hit(headers={"Host": "localhost"})


@pytest.mark.parametrize("host", ["LOCALHOST", "localhost:80"])
@pytest.mark.requirement("9111-4-1")
async def test_the_same_authority_in_another_spelling_is_answered(host: str) -> None:
    async with cache_site() as site:
        site.serve(FRESH)

        await site.get(headers={"Host": "localhost"})

        assert await site.is_hit(headers={"Host": host})


@pytest.mark.requirement("9111-4-2", "9110-9.3.1-1", "9110-9.3.2-1", "9110-9.3.2-2", "9110-8.6-1", "9111-4-6")
async def test_head_is_answered_by_a_stored_get() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "ETag": '"a"', "Content-Type": "text/plain"}, b"0123456789")

        await site.get()
        site.later(5)
        got = await site.get()
        answer = await site.ask("HEAD")

        assert (answer.status, answer.body, site.fills) == (200, b"", 1)
        assert answer.header("Content-Length") == "10"
        assert answer.header("Age") == "5"
        assert {name.lower() for name in answer.names()} == {name.lower() for name in got.names()}


@pytest.mark.requirement("9111-4-2")
async def test_get_is_not_answered_by_what_head_brought() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "ETag": '"a"'}, b"0123456789")

        await site.ask("HEAD")
        answer = await site.get()

        assert (answer.body, answer.complete) == (b"0123456789", True)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.requirement("9111-4-2", "9111-4-7", "9110-9.2.3-1")
async def test_other_methods_are_not_answered_by_a_stored_get(method: str) -> None:
    async with cache_site() as site:
        site.serve(FRESH)

        await site.get()

        assert not await site.is_hit(method=method)
        assert site.last.method == method


@pytest.mark.requirement("9111-4-7")
async def test_unsafe_request_is_answered_only_when_the_upstream_has_answered() -> None:
    async with cache_site() as site:
        gate = Gate()
        site.serve(FRESH, times=1)
        site.upstream.on("*", gate, site.answer({}, b"done", status=201))

        await site.get()
        async with RawClient(site.app.port) as client:
            await client.send_request("POST", PATH, {}, b"x")
            await gate.reached.wait()
            assert client.unread == b""
            gate.open()
            answer = await client.read_response("POST")

        assert (answer.status, answer.body) == (201, b"done")


@pytest.mark.requirement("9111-4-8")
async def test_the_most_recent_response_is_used() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Date": "{-20}"}, b"old", times=1)
        site.serve({**FRESH, "Date": "{-10}"}, b"new")

        await site.get()
        await site.get(headers={"Cache-Control": "no-cache"})

        assert (await site.get()).body == b"new"


@pytest.mark.requirement("9111-4-8")
async def test_the_most_recent_of_two_that_match_by_different_fields_is_used() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "Vary": "X-One", "Date": "{-20}"}, b"old", times=1)
        site.serve({**FRESH, "Vary": "X-Two", "Date": "{-10}"}, b"new")

        await site.get(headers={"X-One": "1", "X-Two": "other"})
        await site.get(headers={"X-One": "other", "X-Two": "2"})
        both = await site.get(headers={"X-One": "1", "X-Two": "2"})

        assert (both.body, site.fills) == (b"new", 2)


@pytest.mark.requirement("9111-4-6", "9111-4.2.3-2")
async def test_every_hit_has_one_age() -> None:
    async with cache_site() as site:
        site.serve({**FRESH, "ETag": '"a"'}, b"0123456789")

        await site.get()
        ages = []
        for seconds, headers in ((1, {}), (2, {"If-None-Match": '"a"'}), (3, {"Range": "bytes=0-1"}), (4, {})):
            site.later(seconds)
            ages.append((await site.get(headers=headers)).header_list("Age"))

        assert ages == [["1"], ["3"], ["6"], ["10"]]


@pytest.mark.requirement("9111-4-5")
async def test_hits_are_alike_on_one_connection() -> None:
    async with cache_site() as site, RawClient(site.app.port) as client:
        site.serve(FRESH, b"body")

        answers = [await client.request("GET", PATH) for _ in range(5)]

        assert [answer.body for answer in answers] == [b"body"] * 5
        assert site.fills == 1


@pytest.mark.requirement("9110-9.3.1-1")
async def test_absolute_form_names_the_same_uri() -> None:
    async with cache_site() as site:
        site.serve(FRESH)

        await site.get(headers={"Host": "localhost"})

        assert await site.is_hit(f"http://localhost{PATH}")


async def test_upgrade_is_not_answered_from_the_store() -> None:
    async with cache_site() as site, RawClient(site.app.port) as client:
        await site.stored(FRESH)
        site.upstream.on("*", tunnel())

        await client.send_request("GET", PATH, {"Connection": "Upgrade", "Upgrade": "websocket"})

        assert (await client.read_head()).status == 101


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with cache_site() as site, RawClient(site.app.port) as client:
        site.serve(FRESH)
        await site.get("/hit")

        await client.send(b"".join(request_bytes("GET", target) for target in ("/hit", "/miss", "/hit", "/miss")))
        bodies = [(await client.read_response()).body for _ in range(4)]

        assert bodies == [b"answer 1", b"answer 2", b"answer 1", b"answer 2"]


async def test_http_1_0_client_gets_a_hit_and_the_end_of_the_connection() -> None:
    async with cache_site() as site, RawClient(site.app.port) as client:
        await site.stored(FRESH, b"stored")

        await client.send(b"GET /r HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = await client.read_response()

        assert (answer.body, answer.header("Content-Length"), answer.header("Age")) == (b"stored", "6", "0")
        assert await client.ended_within() == "fin"


async def test_event_streams_are_not_shared() -> None:
    async with cache_site() as site, RawClient(site.app.port) as one, RawClient(site.app.port) as two:
        fields = {**FRESH, "Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
        site.upstream.on("*", site.frame(fields, chunk(b"data: 1\n\n"), hang()))

        for client in (one, two):
            await client.send_request("GET", PATH)
            assert (await client.read_head()).status == 200

        assert site.fills == 2
