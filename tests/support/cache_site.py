"""CacheSite: a scripted upstream behind a running app with a cache, and the clock that both go by.

    async with cache_site() as site:
        site.serve({"Cache-Control": "max-age=60"})
        first = await site.get()
        site.later(61)
        second = await site.get()
        assert site.fills == 2

In field values `{+60}` stands for the HTTP-date of a minute from now, `{-60}` for that of a minute ago, at the time
when the upstream answers or the client asks; `{850+60}` and `{asctime+60}` are the obsolete forms.
"""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate
from time import gmtime, strftime
from typing import Any

from tests.support.app import RunningApp, running_app
from tests.support.client import fetch
from tests.support.clock import ManualClock
from tests.support.messages import Fields, HeadersLike, ReceivedRequest, Response, header_pairs
from tests.support.settings import policies
from tests.support.steps import Step, Turn, head, reply, sequence
from tests.support.upstream import ScriptedUpstream

PATH = "/r"
START = 1_750_000_000.0
"""15 June 2025: every site's clock begins here."""
FRESH = {"Cache-Control": "max-age=3600"}
_DATE = re.compile(r"\{(850|asctime)?([+-]\d+)\}")
_FORMS = {"850": "%A, %d-%b-%y %H:%M:%S GMT", "asctime": "%a %b %e %H:%M:%S %Y"}
_OWN_FIELDS = frozenset({b"age", b"cache-status", b"via", b"x-request-id", b"connection", b"date"})
"""Fields that differ between answers or that every answer of the proxy has."""


class CacheSite:
    """What a test of the cache sees: one route, its upstream, and time."""

    def __init__(self, app: RunningApp, upstream: ScriptedUpstream, clock: ManualClock) -> None:
        self.app = app
        self.upstream = upstream
        self.clock = clock

    # --- the upstream's side ---

    def serve(
        self,
        headers: HeadersLike | None = None,
        body: bytes | None = None,
        *,
        path: str = "*",
        status: int = 200,
        times: int | None = None,
        date: bool = True,
    ) -> None:
        """Answer requests for `path`; without `body`, it is the number of the request. Adds Date, unless not `date`."""
        self.upstream.on(path, self.answer(headers, body, status=status, date=date), times=times)

    def answer(
        self, headers: HeadersLike | None = None, body: bytes | None = None, *, status: int = 200, date: bool = True
    ) -> Step:
        """The step that `serve` scripts."""

        async def step(turn: Turn) -> None:
            content = b"answer %d" % self.fills if body is None else body
            await reply(status, self._fields(headers, date=date), content)(turn)

        return step

    def revalidate(
        self, first: HeadersLike, then: HeadersLike, body: bytes | None = None, *, status: int = 304
    ) -> None:
        """Answer unconditional requests by a 200 with `first`, conditional ones by `status` with `then`."""
        whole, update = self.answer(first, body), self.answer(then, b"", status=status)

        async def step(turn: Turn) -> None:
            conditions = turn.request.header_list("If-None-Match") + turn.request.header_list("If-Modified-Since")
            await (update if conditions else whole)(turn)

        self.upstream.on("*", step)

    def frame(self, headers: HeadersLike, *steps: Step, status: int = 200) -> Step:
        """A head with exactly these fields, then the steps: for framing."""

        async def step(turn: Turn) -> None:
            await sequence(head(status, self._fields(headers)), *steps)(turn)

        return step

    @property
    def fills(self) -> int:
        """How many requests have reached the upstream."""
        return len(self.upstream.requests)

    @property
    def last(self) -> ReceivedRequest:
        """The last of them."""
        return self.upstream.requests[-1]

    # --- the client's side ---

    async def get(self, target: str = PATH, headers: HeadersLike | None = None) -> Response:
        """One GET on a connection of its own."""
        return await self.ask("GET", target, headers)

    async def ask(
        self, method: str, target: str = PATH, headers: HeadersLike | None = None, body: bytes | None = None
    ) -> Response:
        """One exchange on a connection of its own."""
        return await fetch(self.app.port, method, target, self._dated(headers or {}), body)

    async def stored(self, headers: HeadersLike, body: bytes | None = None, **serve: Any) -> Response:
        """Serve this once, and let a GET store it."""
        self.serve(headers, body, times=1, **serve)
        return await self.get()

    async def is_hit(self, target: str = PATH, headers: HeadersLike | None = None, method: str = "GET") -> bool:
        """Whether this request is answered without the upstream."""
        before = self.fills
        await self.ask(method, target, headers)
        return self.fills == before

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def date(self, seconds: float = 0.0) -> str:
        """The HTTP-date of that many seconds from now."""
        return formatdate(self.clock() + seconds, usegmt=True)

    # --- inside ---

    def _fields(self, headers: HeadersLike | None, *, date: bool = True) -> Fields:
        fields = self._dated(headers or {})
        if date and not any(name.lower() in ("date", b"date") for name, _ in fields):
            return [*fields, ("Date", self.date())]
        return fields

    def _dated(self, headers: HeadersLike) -> Fields:
        return [(name, self._filled(value)) for name, value in header_pairs(headers)]

    def _filled(self, value: str | bytes) -> str | bytes:
        return _DATE.sub(self._date_of, value) if isinstance(value, str) else value

    def _date_of(self, match: re.Match[str]) -> str:
        form, seconds = match[1], float(match[2])
        return strftime(_FORMS[form], gmtime(self.clock() + seconds)) if form else self.date(seconds)


@contextlib.asynccontextmanager
async def cache_site(
    cache: Mapping[str, Any] | None = None,
    *,
    route: Mapping[str, Any] | None = None,
    sections: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[CacheSite]:
    """A site whose only route has this `cache:` ({}: the standard alone).

    Nothing is refreshed early, unless `cache` says so: such requests would come at random. `sections` are further ones
    of the file, `settings` are those of `policies`.
    """
    clock = ManualClock(START)
    async with ScriptedUpstream() as upstream:
        cached = {"cache": {"early_refresh": False, **(cache or {})}}
        text = policies(upstream.url, route={**cached, **(route or {})}, **settings)
        async with running_app(json.dumps({**json.loads(text), **(sections or {})}), wall=clock) as app:
            yield CacheSite(app, upstream, clock)


async def is_reused(
    answer: HeadersLike,
    *,
    status: int = 200,
    later: float = 0.0,
    first: HeadersLike | None = None,
    second: HeadersLike | None = None,
    cache: Mapping[str, Any] | None = None,
) -> bool:
    """Whether the response to one GET answers a second one `later` seconds after it, without the upstream."""
    async with cache_site(cache) as site:
        site.serve(answer, status=status)
        one = await site.get(headers=first)
        site.later(later)
        two = await site.get(headers=second)
    assert (one.status, two.status) == (status, status)
    assert one.body == two.body if site.fills == 1 else one.body != two.body or status == 204
    return site.fills == 1


def cache_status(response: Response) -> dict[str, str]:
    """The parameters of our member of Cache-Status, `?1` for those without a value; empty without the member."""
    members = ",".join(response.header_list("Cache-Status")).split(",")
    name, *parameters = (part.strip() for part in members[-1].split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    return {key: value or "?1" for key, _, value in pairs} if name == "tidegate" else {}


def own_fields(response: Response) -> list[tuple[bytes, bytes]]:
    """The fields that came from the upstream, in the order of the wire."""
    return [(name, value) for name, value in response.headers if name.lower() not in _OWN_FIELDS]
