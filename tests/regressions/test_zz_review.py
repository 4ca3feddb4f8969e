import asyncio, json
import pytest
from tests.support.cache_site import FRESH, PATH, CacheSite, cache_site, cache_status
from tests.support.steps import Turn, reply


async def test_hop_by_hop_vary():
    async with cache_site() as site:
        async def step(turn):
            lang = turn.request.header("X-Lang") or "default"
            await site.answer({**FRESH, "Vary": "X-Lang"}, lang.encode())(turn)
        site.upstream.on("*", step)
        await site.get(headers={"X-Lang": "de", "Connection": "X-Lang"})
        clean = await site.get(headers={"X-Lang": "de"})
        assert clean.body == b"de"


@pytest.mark.parametrize("evil", [
    {"X-Original-URL": "/evil"}, {"X-HTTP-Method-Override": "DELETE"}, {"Connection": "X-Lang", "X-Lang": "de"}])
async def test_head_poison(evil):
    async with cache_site() as site:
        async def step(turn):
            seen = {n: turn.request.header_list(n) for n in ("X-Original-URL", "X-HTTP-Method-Override", "X-Lang")}
            await site.answer({**FRESH, "Vary": "X-Lang", "X-Seen": json.dumps(seen)}, b"body")(turn)
        site.upstream.on("*", step)
        await site.get(headers={"X-Lang": "de"})
        await site.ask("HEAD", headers={**evil, "X-Lang": "de", "Cache-Control": "no-cache"})
        clean = await site.get(headers={"X-Lang": "de"})
        print(clean.header("X-Seen"))
        seen = json.loads(clean.header("X-Seen"))
        assert seen == {"X-Original-URL": [], "X-HTTP-Method-Override": [], "X-Lang": ["de"]}


async def test_head_ignored_query():
    async with cache_site({"ignore_query": ["utm"]}) as site:
        async def step(turn):
            await site.answer({**FRESH, "Link": turn.request.target}, b"body")(turn)
        site.upstream.on("*", step)
        await site.get()
        await site.ask("HEAD", PATH + "?utm=evil", headers={"Cache-Control": "no-cache"})
        clean = await site.get()
        assert clean.header("Link") == PATH


async def test_head_200_over_404():
    async with cache_site() as site:
        site.serve({"Cache-Control": "max-age=5"}, b"none", status=404, times=1)
        await site.get()
        site.later(6)
        async def step(turn):
            if turn.request.method == "HEAD":
                await site.frame({"Cache-Control": "max-age=600"})(turn)
            else:
                await site.answer(FRESH, b"here")(turn)
        site.upstream.on("*", step)
        r = await site.ask("HEAD")
        assert r.status == 200
        after = await site.get()
        assert after.status == 200


async def test_part_hits_ask_nobody():
    async with cache_site() as site:
        body = b"0123456789" * 10
        async def step(turn):
            if turn.request.header("Range"):
                await site.answer({**FRESH, "ETag": '"a"', "Content-Range": f"bytes 0-9/{1000}"}, body[:10], status=206)(turn)
            else:
                await site.answer({**FRESH, "ETag": '"a"'}, body * 10)(turn)
        site.upstream.on("*", step)
        for _ in range(10):
            r = await site.get(headers={"Range": "bytes=0-9"})
            assert r.status == 206
            await asyncio.sleep(0.02)
        print([(q.method, q.header("Range")) for q in site.upstream.requests])
        assert site.fills == 1


async def test_part_hits_big():
    async with cache_site({"max_body": 100}) as site:
        async def step(turn):
            if turn.request.header("Range"):
                await site.answer({**FRESH, "ETag": '"a"', "Content-Range": f"bytes 0-9/{1000}"}, b"0123456789", status=206)(turn)
            else:
                await site.answer({**FRESH, "ETag": '"a"'}, b"x" * 1000)(turn)
        site.upstream.on("*", step)
        for _ in range(10):
            r = await site.get(headers={"Range": "bytes=0-9"})
            await asyncio.sleep(0.02)
        assert site.fills == 1


async def test_parts_beyond_max_body():
    async with cache_site({"max_body": 100}) as site:
        async def step(turn):
            a, b = map(int, turn.request.header("Range", ).removeprefix("bytes=").split("-"))
            await site.answer({**FRESH, "ETag": '"a"', "Content-Range": f"bytes {a}-{b}/1000"}, b"x" * (b - a + 1), status=206)(turn)
        site.upstream.on("*", step)
        for i in range(10):
            await site.get(headers={"Range": f"bytes={i*50}-{i*50+49}"})
        (entry,) = site.app.app._edge.runtime.cache.memory.stored()
        assert len(entry.stored.body) <= 100


async def test_refresh_storm():
    async with cache_site({"stale_while_revalidate": "600s"}) as site:
        await site.stored({"Cache-Control": "max-age=5"})
        site.serve({}, b"", status=503)
        site.later(6)
        for _ in range(50):
            r = await site.get()
            assert r.status == 200
            await asyncio.sleep(0.005)
        print(site.fills)
        assert site.fills < 10


async def test_refresh_storm_cookie():
    async with cache_site({"stale_while_revalidate": "600s"}) as site:
        await site.stored({"Cache-Control": "max-age=5"})
        site.serve({"Cache-Control": "max-age=5"})
        site.later(6)
        for _ in range(50):
            r = await site.get(headers={"Cookie": "a=b"})
            assert r.status == 200
            await asyncio.sleep(0.005)
        print(site.fills)
        assert site.fills < 10


async def test_conditional_population():
    async with cache_site() as site:
        site.revalidate({**FRESH, "ETag": '"a"'}, {**FRESH, "ETag": '"a"'})
        for _ in range(20):
            r = await site.get(headers={"If-None-Match": '"a"'})
            assert r.status == 304
        assert site.fills < 3


async def test_clock_back():
    async with cache_site() as site:
        site.serve({"Cache-Control": "max-age=60"})
        await site.get()
        site.clock._now -= 86400
        await site.get()
        site.later(3600)
        assert not await site.is_hit()


async def test_api_key():
    async with cache_site() as site:
        site.serve({"Cache-Control": "max-age=60"})
        a = await site.get(headers={"X-API-Key": "alice"})
        b = await site.get(headers={"X-API-Key": "bob"})
        assert a.body != b.body
