"""What makes the upstream, or us, refuse one request is not the answer for others (fault E06)."""

import pytest

from tests.support.cache_site import FRESH, cache_site
from tests.support.client import RawClient
from tests.support.messages import Fields
from tests.support.steps import Turn, reply

REFUSED: list[tuple[str, Fields]] = [
    ("oversize", [("X-Oversize", "x" * 7000)]),
    ("many", [(f"X-Many-{number}", "x") for number in range(80)]),
    ("method override", [("X-HTTP-Method-Override", "POST")]),
    ("bad charset", [("Accept-Charset", "\xff\xfe")]),
    ("expect", [("X-Expect", "101-continue")]),
    ("forwarded", [("X-Forwarded-Port", "99999999")]),
    ("bad range", [("Range", "bytes=cow")]),
    ("upgrade insecure", [("Upgrade-Insecure-Requests", "x" * 3000)]),
    ("bad authorization", [("Authorization", "garbage")]),
    ("bad cookie", [("Cookie", "=;=" * 500)]),
]


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 406, 408, 413, 414, 415, 416, 417, 422, 426, 429, 431, 500, 501, 503]
)
@pytest.mark.parametrize("fields", [each for _, each in REFUSED], ids=[name for name, _ in REFUSED])
async def test_e06_refusal_of_a_strange_request_is_not_the_answer_for_others(fields: Fields, status: int) -> None:
    async with cache_site() as site:
        strange = {str(name).lower() for name, _ in fields}

        async def step(turn: Turn) -> None:
            odd = any(name.lower() in strange for name in turn.request.names())
            await reply(status if odd else 200, {} if odd else FRESH, b"refused" if odd else b"clean")(turn)

        site.upstream.on("*", step)

        await site.get(headers=fields)
        clean = await site.get()

        assert (clean.status, clean.body) == (200, b"clean")


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /r HTTP/1.1\r\nHost: localhost\r\nX-Meta: a\x07b\r\n\r\n",
        b"GET /r HTTP/1.1\r\nHost: localhost\r\nX-Meta: a\x00b\r\n\r\n",
        b"GET /r HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /r HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: 1\r\n" * 500 + b"\r\n",
        b"GET /r HTTP/1.1\r\nHost: localhost\r\nX Bad: 1\r\n\r\n",
        b"GET /r HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /r HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: cow\r\n\r\n",
        b"GET /r HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /r HTTP/1.1\r\nHost: localhost\r\nExpect: 200-ok\r\n\r\n",
    ],
    ids=["bell", "nul", "oversize", "many", "space in name", "two hosts", "coding", "length", "expect"],
)
async def test_e06_our_own_refusals_are_not_the_answer_for_others(raw: bytes) -> None:
    async with cache_site() as site:
        site.serve(FRESH, b"clean")

        async with RawClient(site.app.port) as client:
            await client.send(raw)
            await client.read_response(check=False)
        clean = await site.get(headers={"Host": "localhost"})

        assert (clean.status, clean.body) == (200, b"clean")


async def test_e06_missing_page_is_kept_as_long_as_the_route_says() -> None:
    async with cache_site({"negative_ttl": "1s"}) as site:
        site.serve({}, b"missing", status=404, times=1)
        site.serve(FRESH, b"there")

        await site.get()
        assert await site.is_hit()
        site.later(1)

        assert (await site.get()).body == b"there"


@pytest.mark.parametrize("status", [400, 403, 500, 503])
async def test_e06_other_failures_are_not_kept_by_negative_ttl(status: int) -> None:
    async with cache_site({"negative_ttl": "10s", "ttl": "1h"}) as site:
        site.serve({}, status=status, times=1)
        site.serve(FRESH, b"there")

        await site.get()

        assert (await site.get()).body == b"there"
