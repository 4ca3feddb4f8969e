"""Purging, by people and by mutations: the admin listener, the command, and what GETs get afterwards."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from proxy.cli import main
from tests.support.aftermath import until_metric
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, fetch, get
from tests.support.messages import Response
from tests.support.settings import complete, free_port, policies
from tests.support.steps import Gate, Turn, close, hang, reply, reset
from tests.support.upstream import ScriptedUpstream

ROUTES: list[dict[str, Any]] = [
    {
        "name": "details",
        "match": "GET /properties/{id}",
        "cache": {"ttl": "1h", "tags": ["property:{id}"], "key": "property:{id}"},
    },
    {"name": "list", "match": "GET /properties", "cache": {"ttl": "1h", "tags": ["properties:list:all"]}},
    {"name": "search", "match": "GET /search", "cache": {"ttl": "1h", "query": ["q"]}},
    {"name": "mine", "match": "GET /mine", "cache": {"ttl": "1h", "per_user": "header:X-User-ID"}},
    {
        "name": "ours",
        "match": "GET /ours",
        "cache": {"ttl": "1h", "per_user": ["header:X-Tenant", "header:X-User-ID"]},
    },
    {"name": "here", "match": "GET /here", "cache": {"ttl": "1h", "per_user": "client_ip"}},
    {
        "name": "update",
        "match": ["PUT /properties/{id}", "DELETE /properties/{id}"],
        "invalidate": ["property:{id}", "properties:list:*"],
        "timeout": {"first_byte": "200ms"},
    },
    {"name": "rest", "match": "* /*"},
]


class Site:
    """An app whose upstream answers each request with its number."""

    def __init__(self, app: RunningApp, upstream: ScriptedUpstream) -> None:
        self.app = app
        self.upstream = upstream

    async def body(self, target: str, headers: dict[str, str] | None = None) -> bytes:
        return (await get(self.app.port, target, headers)).body

    async def purge(self, **query: str) -> Response:
        return await fetch(self.app.admin_port, "POST", f"/purge?{urlencode(query)}")

    async def is_kept(self, target: str, headers: dict[str, str] | None = None) -> bool:
        """Whether it is answered without the upstream."""
        before = len(self.upstream.requests)
        await self.body(target, headers)
        return len(self.upstream.requests) == before

    async def status(self) -> dict[str, Any]:
        (status,) = (await get(self.app.admin_port, "/cache")).json()["caches"]
        return dict(status)

    async def entry(self, url: str) -> dict[str, Any]:
        return dict((await get(self.app.admin_port, f"/cache/entry?url={quote(url, safe='')}")).json())


def numbered(upstream: ScriptedUpstream) -> None:
    async def step(turn: Turn) -> None:
        await reply(200, {"ETag": '"1"'}, b"answer %d" % len(upstream.requests))(turn)

    upstream.on("*", step)


@contextlib.asynccontextmanager
async def running_site(*, server: dict[str, Any] | None = None, **scripts: Any) -> AsyncIterator[Site]:
    async with ScriptedUpstream() as upstream:
        for path, step in scripts.items():
            upstream.on(f"/{path.replace('_', '/')}", step)
        numbered(upstream)
        async with running_app(policies(upstream.url, routes=ROUTES, server=server)) as app:
            yield Site(app, upstream)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running_site() as running:
        yield running


# --- by people ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "gone"),
    [
        ({"url": "/properties/1"}, {"/properties/1"}),
        ({"url": "http://LOCALHOST:80/properties/1#top"}, {"/properties/1"}),
        ({"url": "http://other.test/properties/1"}, set()),
        ({"tag": "property:1"}, {"/properties/1"}),
        ({"tag": "property"}, {"/properties/1", "/properties/2"}),
        ({"pattern": "property:*"}, {"/properties/1", "/properties/2"}),
        ({"pattern": "properties:list:*"}, {"/properties"}),
        ({"route": "details"}, {"/properties/1", "/properties/2"}),
        ({"url": "/search?q=x"}, {"/search?q=x"}),
        ({"tag": "nobody:knows"}, set()),
        ({"all": "true"}, {"/properties/1", "/properties/2", "/properties", "/search?q=x"}),
    ],
    ids=lambda value: "-".join(sorted(value)) or "nothing",  # in an order of its own: each process collects the same
)
async def test_purge_takes_what_it_names_and_nothing_else(site: Site, query: dict[str, str], gone: set[str]) -> None:
    targets = ["/properties/1", "/properties/2", "/properties", "/search?q=x"]
    for target in targets:
        await site.body(target)

    answer = await site.purge(**query)

    assert answer.status == 200
    assert answer.json()["complete"] is True
    assert answer.json()["level"] == "hard"
    assert {target for target in targets if not await site.is_kept(target)} == gone


async def test_whole_url_purges_under_its_own_authority_alone(site: Site) -> None:
    for host in ("a.test", "b.test"):
        await site.body("/properties/1", {"Host": host})

    assert (await site.purge(url="http://A.test:80/properties/1#top")).status == 200

    assert not await site.is_kept("/properties/1", {"Host": "a.test"})
    assert await site.is_kept("/properties/1", {"Host": "b.test"})

    await site.purge(url="/properties/1")
    assert not await site.is_kept("/properties/1", {"Host": "b.test"})


async def test_purge_by_user_takes_what_is_that_users(site: Site) -> None:
    for user in ("ann", "bob"):
        await site.body("/mine", {"X-User-ID": user})

    assert (await site.purge(user="ann")).status == 200

    assert not await site.is_kept("/mine", {"X-User-ID": "ann"})
    assert await site.is_kept("/mine", {"X-User-ID": "bob"})


async def test_purge_by_user_takes_all_that_tells_users_apart(site: Site) -> None:
    ann, bob = ({"X-Tenant": "t", "X-User-ID": user} for user in ("ann", "bob"))
    for user in (ann, bob):
        await site.body("/ours", user)
    await site.body("/here")

    assert (await fetch(site.app.admin_port, "POST", "/purge?user=t&user=ann")).status == 200
    assert not await site.is_kept("/ours", ann)
    assert await site.is_kept("/ours", bob)

    assert await site.is_kept("/here")
    assert (await site.purge(user="127.0.0.1")).status == 200
    assert not await site.is_kept("/here")


async def test_soft_purge_makes_stale_so_that_it_is_validated(site: Site) -> None:
    await site.body("/properties/1")

    answer = await site.purge(tag="property:1", soft="true")
    assert answer.json() == {"tags": ["property:1"], "level": "soft", "complete": True}
    assert (await site.entry("/properties/1"))["entries"][0]["validity"] == "soft"

    await site.body("/properties/1")
    assert site.upstream.requests[-1].header("If-None-Match") == '"1"'


@pytest.mark.parametrize(
    "query",
    [
        "",
        "soft=true",
        "url=/properties/1&tag=property:1",
        "tag=a&tag=b",
        "tag=",
        "url=",
        "colour=red",
        "all=perhaps",
        "all=false",
        "all=true&soft=perhaps",
        "tag=property:*",
        "tag=*",
        "tag=a=b",
        "tag=a::b",
        "pattern=property",
        "pattern=*",
        "pattern=*:*",
        "pattern=a*:*",
        "route=update",
        "route=nobody",
        "user=a&user=b&user=c",
        "user=a&user=",
        "url=properties",
        "url=ftp://x/",
        "url=/elsewhere",
        "url=/search?else%3D1",
        "url=/properties/%2500",
    ],
)
async def test_wish_that_makes_no_sense_is_refused_and_nothing_is_purged(site: Site, query: str) -> None:
    await site.body("/properties/1")

    answer = await fetch(site.app.admin_port, "POST", f"/purge?{query}")

    assert answer.status == 400
    assert answer.header("Content-Type") == "application/problem+json"
    assert answer.json()["detail"]
    assert "red" not in answer.json()["detail"]
    assert await site.is_kept("/properties/1")


async def test_foreign_page_cannot_purge(site: Site) -> None:
    answer = await fetch(site.app.admin_port, "POST", "/purge?all=true", {"Origin": "http://evil.example"})

    assert answer.status == 403
    assert (await fetch(site.app.admin_port, "GET", "/purge?all=true")).status == 405


async def test_without_a_cache_there_is_nothing_to_purge_to_show_or_to_warm() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        answers = [
            await fetch(app.admin_port, "POST", "/purge?all=true"),
            await get(app.admin_port, "/cache"),
            await fetch(app.admin_port, "POST", "/warm"),
        ]
        entry = await get(app.admin_port, "/cache/entry?url=/")

    assert [answer.status for answer in answers] == [404, 404, 404]
    assert answers[0].json()["detail"] == "No route has a cache."
    assert (entry.status, entry.json()["reason"]) == (200, "No route has a cache.")


async def test_fill_that_was_under_way_does_not_bring_back_what_was_purged() -> None:
    gate = Gate()

    async def slow(turn: Turn) -> None:
        await gate(turn)
        await reply(200, {}, b"old")(turn)

    async with running_site(properties_1=slow) as site:
        first = asyncio.ensure_future(site.body("/properties/1"))
        await gate.reached.wait()
        await site.purge(tag="property:1")
        gate.open()
        assert await first == b"old"

        assert not await site.is_kept("/properties/1")


async def test_purges_are_counted(site: Site) -> None:
    await site.purge(all="true")

    assert await site.app.metric("proxy_cache_purges_total", cause="admin", outcome="done") == 1


# --- by mutations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_nobody_who_has_the_answer_to_a_mutation_sees_what_was_before(site: Site, method: str) -> None:
    for target in ("/properties/1", "/properties/2", "/properties"):
        await site.body(target)

    assert (await fetch(site.app.port, method, "/properties/1", body=b"new")).status == 200

    assert not await site.is_kept("/properties/1")
    assert not await site.is_kept("/properties")
    assert await site.is_kept("/properties/2")
    assert await site.app.metric("proxy_cache_purges_total", cause="mutation", outcome="done") == 1
    assert await site.app.metric("proxy_policy_decisions_total", policy="invalidate", decision="done") == 1


async def test_mutation_of_a_route_that_says_nothing_purges_its_own_uri_and_what_it_names() -> None:
    located = reply(201, {"Location": "/properties/1", "Content-Location": "http://localhost/properties/2"})
    async with running_site(other=located) as site:
        for target in ("/properties/1", "/properties/2", "/search?q=x"):
            await site.body(target, {"Host": "localhost"})

        await fetch(site.app.port, "POST", "/other", {"Host": "localhost"}, b"x")
        await fetch(site.app.port, "POST", "/search?q=x", {"Host": "localhost"}, b"x")

        for target in ("/properties/1", "/properties/2", "/search?q=x"):
            assert not await site.is_kept(target, {"Host": "localhost"})


@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_mutation_that_was_refused_purges_nothing(status: int) -> None:
    async def refuse(turn: Turn) -> None:
        await reply(status if turn.request.method == "PUT" else 200, {}, b"x")(turn)

    async with running_site(properties_1=refuse) as site:
        await site.body("/properties/1")
        assert (await fetch(site.app.port, "PUT", "/properties/1", body=b"new")).status == status

        assert await site.is_kept("/properties/1")


@pytest.mark.parametrize("step", [reply(500), reset(), close(), hang()], ids=["500", "reset", "close", "timeout"])
async def test_outcome_that_nobody_knows_purges(step: Any) -> None:
    async def act(turn: Turn) -> None:
        await (step if turn.request.method == "PUT" else reply(200, {}, b"x"))(turn)

    async with running_site(properties_1=act) as site:
        await site.body("/properties/1")
        answer = await fetch(site.app.port, "PUT", "/properties/1", body=b"new")
        assert answer.status >= 500

        assert not await site.is_kept("/properties/1")
        purges = await site.app.metric("proxy_cache_purges_total", cause="unknown_outcome", outcome="done")
        assert purges == 1


async def test_upstream_that_is_not_there_has_changed_nothing(site: Site) -> None:
    await site.body("/properties/1")
    await site.upstream.stop()

    assert (await fetch(site.app.port, "PUT", "/properties/1", body=b"new")).status == 502

    assert (await get(site.app.port, "/properties/1")).status == 200
    await site.upstream.start()


async def test_client_that_leaves_during_its_mutation_leaves_nothing_outdated() -> None:
    async def act(turn: Turn) -> None:
        await (hang() if turn.request.method == "DELETE" else reply(200, {}, b"x"))(turn)

    async with running_site(properties_1=act) as site:
        await site.body("/properties/1")
        async with RawClient(site.app.port) as client:
            await client.send_request("DELETE", "/properties/1")
            await site.upstream.wait_for_requests(2)
        await until_metric(site.app, 1, "proxy_cache_purges_total", cause="unknown_outcome", outcome="done")

        assert not await site.is_kept("/properties/1")


# --- what there is --------------------------------------------------------------------------------------------------


async def test_cache_is_shown_with_its_limits(site: Site) -> None:
    await site.body("/properties/1")

    status = await site.status()

    assert status.pop("bytes") > 0
    assert status == {
        "entries": 1,
        "max_entries": 1000,
        "max_bytes": 64 * 1024 * 1024,
        "redis": False,
        "gap_for": None,
        "pending": 0,
        "warm": None,
        "worker": None,
    }
    await site.purge(all="true")
    assert (await site.status())["entries"] == 0


@pytest.mark.parametrize("url", ["/properties/1", "http://127.0.0.1/properties/1"])
async def test_entry_is_shown_with_all_that_is_known_of_it(site: Site, url: str) -> None:
    await get(site.app.port, "/properties/1", {"Host": "127.0.0.1"})

    report = await site.entry(url)

    assert (report["route"], report["key"], report["reason"]) == ("details", "property:1", "")
    (entry,) = report["entries"]
    assert (entry["status"], entry["validity"], entry["level"], entry["vary"]) == (200, "valid", "memory", [])
    assert 0 <= entry["age"] < 60
    assert 3500 < entry["fresh_for"] <= 3600
    assert entry["size"] > 100
    assert {"property:1", "property", "route=details", "*"} <= set(entry["tags"])


async def test_variants_and_users_are_all_shown() -> None:
    vary = reply(200, {"Vary": "Accept-Language", "Cache-Control": "max-age=60"}, b"x")
    async with running_site(properties_1=vary) as site:
        for language in ("en", "de"):
            await get(site.app.port, "/properties/1", {"Accept-Language": language})
        for user in ("ann", "bob"):
            await get(site.app.port, "/mine", {"X-User-ID": user})

        assert [each["vary"] for each in (await site.entry("/properties/1"))["entries"]] == [["accept-language"]] * 2
        assert len((await site.entry("/mine"))["entries"]) == 2


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/properties/9", "Nothing is stored for it."),
        ("/elsewhere", "The route rest has no cache."),
        ("/search?else=1", "It has a query parameter that its route does not declare."),
        ("properties", "A URL is a path such as /properties/1, or begins with http:// or https://."),
    ],
)
async def test_entry_that_is_not_there_is_shown_with_the_reason(site: Site, url: str, reason: str) -> None:
    report = await site.entry(url)

    assert (report["reason"], report["entries"]) == (reason, [])


async def test_what_could_not_be_stored_says_so() -> None:
    async with running_site(properties_1=reply(200, {"Cache-Control": "no-store"}, b"x")) as site:
        await get(site.app.port, "/properties/1", {"Host": "127.0.0.1"})

        assert (await site.entry("http://127.0.0.1/properties/1"))["reason"] == "Its last response could not be stored."


async def test_entry_that_was_purged_is_not_shown(site: Site) -> None:
    await site.body("/properties/1")
    await site.purge(tag="property:1")

    assert (await site.entry("/properties/1"))["entries"] == []


async def test_entry_without_a_url_is_refused(site: Site) -> None:
    assert (await get(site.app.admin_port, "/cache/entry")).status == 400


# --- the command ----------------------------------------------------------------------------------------------------


async def command(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command, run beside the loop that answers it."""
    code = await asyncio.to_thread(main, ["purge", *argv])
    out, err = capsys.readouterr()
    return code, out, err


@contextlib.asynccontextmanager
async def running_with(tmp_path: Path, **server: Any) -> AsyncIterator[tuple[Site, str]]:
    """A site, and the path of the file that it runs with."""
    port = free_port()
    admin = server.pop("admin", f"127.0.0.1:{port}")
    async with running_site(server={"admin": admin, **server}) as site:
        yield site, str(site.app.policies_file)


@pytest.mark.parametrize(
    ("argv", "out"),
    [
        (["--tag", "property:1"], "purged (hard): property:1\n"),
        (["--tag", "property:1", "--soft"], "purged (soft): property:1\n"),
        (["--pattern", "property:*"], "purged (hard): property\n"),
        (["--route", "details"], "purged (hard): route=details\n"),
        (["--all"], "purged (hard): *\n"),
        (["--url", "/properties/1"], "purged (hard): path="),
        (["--url", "http://127.0.0.1/properties/1"], "purged (hard): uri="),
        (["--user", "ann"], "purged (hard): user="),
    ],
    ids=str,
)
async def test_command_purges_the_instance_that_runs_with_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: list[str], out: str
) -> None:
    async with running_with(tmp_path) as (site, file):
        await site.body("/properties/1")
        code, printed, err = await command(capsys, file, *argv)

    assert (code, err) == (0, "")
    assert printed.startswith(out)
    assert printed.count("\n") == 1


async def test_command_brings_the_token(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    admin = {"listen": f"127.0.0.1:{free_port()}", "token": "s3cret-enough-for-this-test"}
    async with running_with(tmp_path, admin=admin) as (_, file):
        assert (await command(capsys, file, "--all"))[0] == 0
        admin["token"] = "another-secret-altogether"
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text(policies("http://127.0.0.1:1", routes=ROUTES, server={"admin": admin}))
        code, out, err = await command(capsys, str(wrong), "--all")

    assert (code, out) == (1, "")
    assert "refused with 401" in err
    assert "another-secret" not in err


async def test_command_finds_a_unix_socket(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        numbered(upstream)
        text = policies(upstream.url, routes=ROUTES, server={"admin": f"unix:{tmp_path}/admin.sock"})
        file = tmp_path / "policies.yaml"
        file.write_text(complete(text, tmp_path))
        from proxy.app import App

        app = App(file)
        await app.start()
        try:
            code, out, err = await command(capsys, str(file), "--all")
        finally:
            await app.stop()

    assert (code, out, err) == (0, "purged (hard): *\n", "")


async def test_command_says_what_the_instance_refuses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async with running_with(tmp_path) as (_, file):
        code, out, err = await command(capsys, file, "--tag", "a=b")

    assert (code, out) == (1, "")
    assert "refused with 400: a tag has no `=`" in err


async def test_command_says_when_not_everybody_was_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async def deaf(tags: Any, validity: int) -> None:
        raise TimeoutError

    async with running_with(tmp_path) as (site, file):
        runtime = site.app.app._edge.runtime
        assert runtime.cache is not None
        runtime.cache.purges.tell = deaf
        code, out, err = await command(capsys, file, "--all")

    assert (code, out) == (1, "purged (hard): *\n")
    assert "not everybody" in err


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"admin": "off"}, "there is no admin listener"),
        ({"admin": "127.0.0.1:0"}, "the port of the admin listener is not known"),
    ],
)
def test_command_without_an_admin_listener_that_can_be_found_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, server: dict[str, Any], message: str
) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(policies("http://127.0.0.1:1", routes=ROUTES, server=server))

    assert main(["purge", str(file), "--all"]) == 1
    assert message in capsys.readouterr().err


def test_command_says_when_nobody_answers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(policies("http://127.0.0.1:1", routes=ROUTES, server={"admin": f"127.0.0.1:{free_port()}"}))

    assert main(["purge", str(file), "--all"]) == 1
    assert "no answer from 127.0.0.1:" in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"<html>", b"[]"])
async def test_command_says_when_somebody_else_answers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, body: bytes
) -> None:
    async with ScriptedUpstream() as somebody:
        somebody.on("*", reply(200, {}, body))
        file = tmp_path / "policies.yaml"
        file.write_text(policies("http://127.0.0.1:1", routes=ROUTES, server={"admin": f"127.0.0.1:{somebody.port}"}))
        code, _, err = await command(capsys, str(file), "--all")

    assert code == 1
    assert "is not Tidegate" in err


def test_command_with_a_file_that_cannot_be_used_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(json.dumps({"upstreams": {}}))

    assert main(["purge", str(file), "--all"]) == 1
    assert capsys.readouterr().err


@pytest.mark.parametrize("argv", [["f"], ["f", "--all", "--tag", "a"], ["--all"], ["f", "--tag"]])
def test_command_that_is_used_wrongly_says_how(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["purge", *argv])

    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tidegate purge")
