"""What one client sends beside the key showed in what others got: by Connection, and by HEAD requests."""

import json

import pytest

from tests.support.cache_site import FRESH, PATH, CacheSite, cache_site
from tests.support.steps import Turn

SHOWN = ("X-Original-URL", "X-HTTP-Method-Override", "X-Lang")


def serve_mirror(site: CacheSite) -> None:
    async def step(turn: Turn) -> None:
        seen = {name: turn.request.header_list(name) for name in SHOWN if turn.request.header_list(name)}
        fields = {**FRESH, "Vary": "X-Lang", "X-Seen": json.dumps(seen), "Link": turn.request.target}
        await site.answer(fields, b"body")(turn)

    site.upstream.on("*", step)


async def test_field_that_connection_names_selects_no_variant() -> None:
    async with cache_site() as site:
        serve_mirror(site)

        await site.get(headers={"X-Lang": "de", "Connection": "X-Lang"})
        clean = await site.get(headers={"X-Lang": "de"})
        without = await site.get()

        assert json.loads(clean.header("X-Seen") or "") == {"X-Lang": ["de"]}
        assert json.loads(without.header("X-Seen") or "") == {}
        assert site.fills == 2


async def test_directive_that_connection_names_counts() -> None:
    async with cache_site() as site:
        site.serve(FRESH)

        await site.get(headers={"Cache-Control": "no-store", "Connection": "Cache-Control"})

        assert not await site.is_hit()


@pytest.mark.parametrize(
    "fields",
    [
        {"X-Original-URL": "/evil"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"Connection": "X-Lang"},
        {"Host": "API.example"},
        {"X_Original_URL": "/evil"},
    ],
)
async def test_head_that_says_more_than_a_fill_teaches_nothing(fields: dict[str, str]) -> None:
    async with cache_site() as site:
        serve_mirror(site)
        usual = {"X-Lang": "de", "Host": "api.example"}

        before = await site.get(headers=usual)
        site.later(10)
        await site.ask("HEAD", headers={**usual, "Cache-Control": "no-cache", **fields})
        after = await site.get(headers=usual)

        assert after.header("X-Seen") == before.header("X-Seen")
        assert after.header("Age") == "10"


async def test_head_with_ignored_parameters_teaches_nothing() -> None:
    async with cache_site({"ignore_query": ["utm"]}) as site:
        serve_mirror(site)

        await site.get()
        await site.ask("HEAD", f"{PATH}?utm=evil", {"Cache-Control": "no-cache"})

        assert (await site.get()).header("Link") == PATH


@pytest.mark.parametrize(("name", "value"), [("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Port", "1")])
async def test_head_with_what_a_trusted_proxy_says_of_the_target_teaches_nothing(name: str, value: str) -> None:
    async with cache_site(server={"trusted_proxies": ["127.0.0.0/8"]}) as site:

        async def step(turn: Turn) -> None:
            await site.answer({**FRESH, "Link": turn.request.header(name) or "none"}, b"body")(turn)

        site.upstream.on("*", step)
        before = await site.get()
        await site.ask("HEAD", headers={"Cache-Control": "no-cache", name: value})

        assert (await site.get()).header("Link") == before.header("Link")


async def test_plain_head_still_teaches() -> None:
    async with cache_site() as site:
        serve_mirror(site)

        await site.get()
        site.later(10)
        await site.ask("HEAD", headers={"Cache-Control": "no-cache"})

        assert (await site.get()).header("Age") == "0"


async def test_head_that_finds_a_resource_ends_a_stored_404() -> None:
    async with cache_site() as site:
        await site.stored({"Cache-Control": "max-age=5"}, b"none", status=404)
        site.later(6)

        async def step(turn: Turn) -> None:
            is_head = turn.request.method == "HEAD"
            await (site.frame({"Cache-Control": "max-age=600"}) if is_head else site.answer(FRESH, b"here"))(turn)

        site.upstream.on("*", step)

        assert (await site.ask("HEAD")).status == 200
        assert (await site.get()).body == b"here"
