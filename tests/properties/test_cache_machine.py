"""The whole cache against a model: whatever clients, upstream, purges and time do, no answer breaks a rule."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.errors import ConnectionRefused, NotCached, ProxyError, ResponseIncomplete
from proxy.exchange import Exchange, Response
from proxy.protocol.caching.stored import Validity
from proxy.protocol.caching.tags import user_tag
from tests.support.cache_layer import CacheLayer
from tests.support.cache_model import Asked, Change, Content, Got, Model, Said
from tests.support.fills import ArrivingBody
from tests.support.upstream_client import read_all

TARGETS = ["/a"] * 6 + ["/a?q=1", "/b"]
CONTROLS = [
    "max-age=10",
    "max-age=10",
    "max-age=100, stale-while-revalidate=20",
    "max-age=10, stale-while-revalidate=20, stale-if-error=40",
    "max-age=10, stale-if-error=40",
    "max-age=10, stale-if-error=40, must-revalidate",
    "max-age=0, stale-while-revalidate=5",
    "s-maxage=20, stale-while-revalidate=20",
    "max-age=10, s-maxage=0",
    "public, max-age=10",
    "no-cache",
    "no-store, max-age=10",
    "private, max-age=10",
    "public",
    "proxy-revalidate, max-age=5, stale-if-error=40",
]
WISHES = [
    *[""] * 24,
    "no-cache",
    "no-store",
    "max-age=0",
    "max-age=5",
    "min-fresh=5",
    "max-stale=15",
    "max-stale",
    "only-if-cached",
    "max-age=5, max-stale=3",
    "stale-if-error=10",
    "no-cache, stale-if-error=30",
]

_STEP = 1000
"""Versions between two changes that are made known."""

controls = st.sampled_from(CONTROLS)
targets = st.sampled_from(TARGETS)
ones = st.sampled_from(["", "", "x"])
users = st.sampled_from(["ada", "ada", "bob"])
seldom = st.sampled_from([False] * 7 + [True])
waits = st.sampled_from([0.5, 3.0, 8.0, 11.0, 11.0, 25.0, 60.0])


@dataclass(eq=False)
class Waiting:
    """A request that has reached the upstream."""

    exchange: Exchange
    version: int
    """What it has read, should it be one that reads before it waits."""
    moment: int
    at: float
    answer: "asyncio.Future[Response]"

    def __repr__(self) -> str:
        return f"<{self.exchange.request_id} {self.exchange.request.method} {self.exchange.request.target}>"


@dataclass(eq=False)
class Client:
    """A client that waits for its answer."""

    asked: Asked
    task: "asyncio.Task[Got | None]"

    def __repr__(self) -> str:
        return f"<{self.asked.name} {self.asked.method} {self.asked.target}>"


class CacheMachine(RuleBasedStateMachine):
    """Clients, an upstream that answers in any order, changes and time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.moment = 0
        self.waiting: list[Waiting] = []
        self.clients: list[Client] = []
        self.versions: dict[str, int] = {}
        """How often each path has been changed by a request; what it shows changes by itself as well."""
        self.drift = 0
        self.answered = 0
        self.permits = 0
        self.draw = 0.5

    @initialize(
        per_user=st.booleans(),
        ttl=st.sampled_from([0, 30]),
        swr=st.sampled_from([0, 15]),
        sie=st.sampled_from([0, 30]),
        keeps_good=st.booleans(),
        early=st.booleans(),
    )
    def begin(self, per_user: bool, ttl: int, swr: int, sie: int, keeps_good: bool, early: bool) -> None:
        self.model = Model(per_user, ttl, ttl / 3, swr, sie)
        options: dict[str, Any] = {"early_refresh": early, "keeps_good": keeps_good}
        if per_user:
            options["per_user"] = "header:X-User"
        if ttl:
            options |= {"ttl": f"{ttl}s", "negative_ttl": f"{ttl // 3}s"}
        if swr:
            options["stale_while_revalidate"] = f"{swr}s"
        if sie:
            options["stale_if_error"] = f"{sie}s"

        async def make() -> CacheLayer:
            return CacheLayer(inner=self, max_body=200, **options)

        self.site = self.run(make())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def go_on(self) -> None:
        """Let everything run that can, and look at what has come of it."""
        self.run(self.site.settle())
        for client in [each for each in self.clients if each.task.done()]:
            self.clients.remove(client)
            got = client.task.result()
            if got is not None:
                self.model.judge(client.asked, got)

    def version(self, url: str) -> int:
        """Of what the upstream shows now."""
        return self.versions.get(url.partition("?")[0], 0) * _STEP + self.drift

    def tick(self) -> int:
        self.moment += 1
        return self.moment

    # --- the upstream ---

    async def handle(self, exchange: Exchange) -> Response:
        """The innermost handler."""
        waiting = Waiting(
            exchange, self.version(exchange.request.target), self.moment, self.site.wall(), self.loop.create_future()
        )
        self.waiting.append(waiting)
        self.permits += 1
        try:
            response = await waiting.answer
        except BaseException:
            self.permits -= 1
            raise
        finally:
            self.waiting.remove(waiting)
        response.on_close(self.release)
        return response

    def release(self) -> None:
        self.permits -= 1

    @precondition(lambda self: self.waiting)
    @rule(
        data=st.data(),
        control=controls,
        status=st.sampled_from([200] * 6 + [404, 503]),
        varies=st.sampled_from([False, False, True]),
        has_etag=st.booleans(),
        age=st.sampled_from([0, 0, 0, 4, 50]),
        sets_cookie=seldom,
        reads_late=st.booleans(),
        body=st.sampled_from(["whole"] * 4 + ["arriving", "arriving", "broken", "long"]),
    )
    def answer(
        self,
        data: st.DataObject,
        control: str,
        status: int,
        varies: bool,
        has_etag: bool,
        age: int,
        sets_cookie: bool,
        reads_late: bool,
        body: str,
    ) -> None:
        self.reply(
            data.draw(st.sampled_from(self.waiting)),
            control,
            status=status,
            varies=varies,
            has_etag=has_etag,
            age=age,
            sets_cookie=sets_cookie,
            reads_late=reads_late,
            body=body,
        )
        self.go_on()

    def reply(
        self,
        waiting: Waiting,
        control: str,
        *,
        status: int = 200,
        varies: bool = False,
        has_etag: bool = False,
        age: int = 0,
        sets_cookie: bool = False,
        reads_late: bool = True,
        body: str = "whole",
    ) -> str:
        """Answer, with a 304 where that will do; under what name that is written down."""
        request = waiting.exchange.request
        asked = {name.decode().lower(): value.decode() for name, value in request.fields.raw}
        version = self.version(request.target) if reads_late else waiting.version
        is_personal = "private" in control or self.model.per_user
        owner, one = asked.get("x-user", "") if is_personal else "", asked.get("x-one", "") if varies else ""
        content = Content(request.target, owner, one, version)
        self.answered += 1
        name = f"u{self.answered}"
        fields = {"Cache-Control": control} if status != 503 else {}
        if varies:
            fields["Vary"] = "X-One"
        if age:
            fields["Age"] = str(age)
        if sets_cookie:
            fields["Set-Cookie"] = "a=b"
        if status == 200 and asked.get("if-none-match") == content.etag:
            status, text = 304, b""
            fields |= {"ETag": content.etag, "X-Confirmed": name}
        else:
            text = content.etag.encode()
            # A HEAD says something of what is stored, and is not stored itself.
            fields["X-Confirmed" if request.method == "HEAD" else "X-Said"] = name
            if has_etag:
                fields["ETag"] = content.etag
        self.tick()
        self.model.said[name] = Said(
            name,
            waiting.exchange.request_id,
            request.method,
            status,
            content,
            fields.get("Cache-Control", ""),
            varies,
            age,
            sets_cookie,
            "cookie" in asked,
            "no-store" in asked.get("cache-control", ""),
            waiting.moment,
            waiting.at,
            self.site.wall(),
        )
        raw = [(key.encode(), value.encode()) for key, value in fields.items()]
        whole = self.body(text, body if status == 200 else "whole", request.method)
        waiting.answer.set_result(Response(status, raw, whole))
        return name

    def body(self, text: bytes, kind: str, method: str) -> bytes | ArrivingBody:
        if method == "HEAD":
            return b""
        if kind == "whole":
            return text
        body = ArrivingBody(text[:3], text[3:])
        if kind == "long":
            body = ArrivingBody(text, bytes(100), bytes(200))
        body.ends(ResponseIncomplete() if kind == "broken" else None)
        return body

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        self.tick()
        data.draw(st.sampled_from(self.waiting)).answer.set_exception(ConnectionRefused())
        self.go_on()

    # --- clients ---

    def send(
        self,
        url: str,
        user: str,
        one: str,
        *,
        method: str = "GET",
        control: str = "",
        has_credentials: bool = False,
        condition: bool = False,
    ) -> Client:
        """A client that asks now."""
        fields = {"X-User": user}
        if one:
            fields["X-One"] = one
        if control:
            fields["Cache-Control"] = control
        if has_credentials:
            fields["Cookie"] = "a=b"
        if condition:
            owner = user if self.model.per_user else ""
            fields["If-None-Match"] = Content(url, owner, one, self.version(url)).etag
        moment, versions = self.tick(), {path: count * _STEP for path, count in self.versions.items()}
        at = self.site.wall()
        asked = Asked(f"q{moment}", method, url, user, one, control, has_credentials, moment, at, versions)
        client = Client(asked, self.loop.create_task(self.client(asked, fields)))
        self.clients.append(client)
        return client

    @rule(
        url=targets,
        method=st.sampled_from(["GET"] * 4 + ["HEAD"]),
        user=users,
        one=ones,
        control=st.sampled_from(WISHES),
        has_credentials=seldom,
        condition=seldom,
    )
    def ask(self, url: str, **what: Any) -> None:
        """One client alone."""
        self.send(url, what.pop("user"), what.pop("one"), **what)
        self.go_on()

    @rule(
        url=targets,
        crowd=st.lists(st.tuples(users, ones, seldom, seldom), min_size=2, max_size=4),
        control=st.sampled_from(WISHES),
    )
    def ask_together(self, url: str, crowd: list[tuple[str, str, bool, bool]], control: str) -> None:
        """Several at once."""
        for user, one, has_credentials, condition in crowd:
            self.send(url, user, one, control=control, has_credentials=has_credentials, condition=condition)
            control = ""
        self.go_on()

    async def client(self, asked: Asked, fields: dict[str, str]) -> Got | None:
        exchange = self.site.exchange(asked.method, asked.target, fields)
        exchange.request_id = asked.name
        try:
            response = await self.site.handler.handle(exchange)
        except NotCached:
            assert "only-if-cached" in asked.said
            return None
        except ProxyError:
            return None
        try:
            head = self.moment, self.site.wall()
            pairs = [(name.decode().lower(), value.decode()) for name, value in response.headers]
            assert len(dict(pairs)) == len(pairs), f"a field twice: {pairs}"
            body = await read_all(response)
        except ProxyError:
            return None
        finally:
            response.close()
        assert "only-if-cached" not in asked.said or "hit" in dict(pairs)["cache-status"]
        return Got(response.status, dict(pairs), body.removesuffix(bytes(300)), *head)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.clients.remove(client)
        client.task.cancel()
        self.go_on()

    @rule(url=targets, user=users, one=ones, control=controls, varies=seldom, has_etag=st.booleans())
    def ask_twice(self, url: str, user: str, one: str, control: str, varies: bool, has_etag: bool) -> None:
        """Whoever has just asked the upstream for something fresh need not ask again."""
        assume(not self.waiting)
        client = self.send(url, user, one)
        self.go_on()
        if not self.waiting or self.waiting[0].exchange.request_id != client.asked.name:
            return
        waiting = self.waiting[0]
        if waiting.exchange.criticality != "background":
            name = self.reply(waiting, control, varies=varies, has_etag=has_etag)
            word = self.model.said[name]
            self.go_on()
            again = self.send(url, user, one)
            self.run(self.site.settle())
            if self.model.is_fresh_at_first(word) and self.site.store.purges.gap_since is None:
                assert again.task.done()
                got = again.task.result()
                assert got is not None
                assert got.is_hit
                assert name in (got.fields.get("x-said"), got.fields.get("x-confirmed"))
            self.go_on()

    @rule(
        url=targets,
        seconds=waits,
        methods=st.lists(st.sampled_from(["GET", "GET", "HEAD"]), min_size=1, max_size=3),
        user=users,
        one=ones,
        wish=st.sampled_from(WISHES),
        control=controls,
        varies=seldom,
        has_etag=st.booleans(),
        fails=st.sampled_from([None, None, 503, "refused"]),
    )
    def come_back(
        self,
        url: str,
        seconds: float,
        methods: list[str],
        user: str,
        one: str,
        wish: str,
        control: str,
        varies: bool,
        has_etag: bool,
        fails: int | str | None,
    ) -> None:
        """One client after the other a while later, with an upstream that answers, or fails, at once."""
        assume(not self.waiting)
        self.tick()
        self.site.later(seconds)
        for method in methods:
            self.send(url, user, one, method=method, control=wish)
            self.go_on()
            while self.waiting:
                if fails == "refused":
                    self.waiting[0].answer.set_exception(ConnectionRefused())
                else:
                    self.reply(self.waiting[0], control, status=503 if fails else 200, varies=varies, has_etag=has_etag)
                self.go_on()
        assert not self.clients

    # --- what changes ---

    def changed(self, path: str, url: str, user: str, validity: Validity) -> None:
        self.model.changes.append(Change(self.tick(), path, url, user, validity, self.site.wall()))

    @rule()
    def change_by_itself(self) -> None:
        """What the upstream shows changes, and nobody is told."""
        self.drift = min(self.drift + 1, _STEP - 1)

    @rule(
        url=targets,
        outcome=st.sampled_from(["done", "done", "failed", "refused"]),
    )
    def mutate(self, url: str, outcome: str) -> None:
        """The upstream does at once what it is asked."""
        path = url.partition("?")[0]
        exchange = self.site.exchange("PUT", url, body=b"x")
        exchange.attempt, exchange.attempt_started, exchange.upstream_endpoint = 1, 1.0, "127.0.0.1:1"
        task = self.loop.create_task(self.site.send(exchange))
        self.run(self.site.settle())
        waiting = self.waiting[-1]
        assert waiting.exchange is exchange
        if outcome != "refused":
            self.versions[path] = self.versions.get(path, 0) + 1
            self.changed(path, "", "", Validity.INVALID)
        else:
            self.tick()
        waiting.answer.set_result(Response({"done": 204, "failed": 500, "refused": 409}[outcome], []))
        self.run(self.site.settle())
        assert task.done()
        assert task.result().said == "fwd=method"
        self.go_on()

    @rule(
        what=st.sampled_from(["all", "tag", "url", "user", "route"]),
        url=targets,
        user=users,
        validity=st.sampled_from([Validity.SOFT, Validity.SOFT, Validity.INVALID, Validity.GONE]),
    )
    def purge(self, what: str, url: str, user: str, validity: Validity) -> None:
        path = url.partition("?")[0]
        match what:
            case "tag":
                tag, change = f"property:{path[1:]}", (path, "", "")
            case "url":
                key = self.site.key(url, user.encode() if self.model.per_user else b"")
                tag, change = f"uri={key.uri}", (path, url, "")
            case "user" if self.model.per_user:
                tag, change = user_tag(user.encode()), ("", "", user)
            case "route":
                tag, change = self.site.route_tag, ("", "", "")
            case _:
                tag, change = "*", ("", "", "")
        self.changed(*change, validity)
        self.site.purge(tag, validity)
        self.go_on()

    @rule(seconds=waits)
    def wait(self, seconds: float) -> None:
        self.tick()
        self.site.later(seconds)
        self.go_on()

    @rule(draw=st.sampled_from([0.0, 0.3, 0.9, 0.999]))
    def draw_lots(self, draw: float) -> None:
        self.site.draw = draw

    @rule()
    def hear_nothing(self) -> None:
        purges = self.site.store.purges
        assume(purges.gap_since is None)
        purges.gap_since = self.site.wall()
        self.model.gaps.append((self.tick(), None, self.site.wall()))

    @rule()
    def hear_again(self) -> None:
        purges = self.site.store.purges
        assume(purges.gap_since is not None)
        begin, _, since = self.model.gaps.pop()
        self.changed("", "", "", Validity.GONE)
        self.model.gaps.append((begin, self.moment, since))
        purges._drop_all()
        purges.gap_since = None

    # --- what always holds ---

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Without a request at the upstream there is no client that waits, no fill and no permit."""
        if not hasattr(self, "site") or self.waiting:
            return
        assert not self.clients
        assert len(self.site.store.fills) == 0
        assert self.permits == 0
        assert self.loop.run_until_complete(self.tasks()) == 1

    async def tasks(self) -> int:
        return len(asyncio.all_tasks())

    def teardown(self) -> None:
        if hasattr(self, "site"):
            for client in self.clients:
                client.task.cancel()
            self.clients.clear()
            self.run(self.site.settle())
            self.run(self.site.close())
            self.run(self.site.settle())
            assert not self.waiting
            self.nobody_waits_for_nothing()
        self.loop.close()


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
