"""The cache on the admin listener: what is in it, and the ways to purge and to warm it."""

from typing import Final

from aiohttp import web

from proxy.admin.cache_view import NO_ANSWER, NO_CACHE, SELECTION_KINDS, CacheView, SelectionKind
from proxy.admin.responses import json_response, problem

_ONE_SELECTION: Final = (
    "Say what to purge, one of: url (a path or a whole URL), tag, pattern (such as list:*), user, route, all=true."
)
_FLAGS: Final = {"": True, "true": True, "1": True, "false": False, "0": False}
_NO_FLAG: Final = "`all` and `soft` are true or false."
_UNKNOWN: Final = "There are only url, tag, pattern, user, route, all and soft."
_EMPTY: Final = "What to purge must not be empty."
_NO_URL: Final = "Say whose: url is a path such as /properties/1, or a whole URL."
_NO_WARM: Final = "The file says nothing about warming: there is no `warm` under `cache`."
_STATUSES: Final = {NO_CACHE: 404, NO_ANSWER: 503}
_WARMING: Final = "The cache is being warmed."


def cache_routes(view: CacheView) -> list[web.RouteDef]:
    """What the admin listener serves of it."""
    handlers = _Caches(view)
    return [
        web.post("/purge", handlers.purge),
        web.get("/cache", handlers.show),
        web.get("/cache/entry", handlers.show_entry),
        web.post("/warm", handlers.warm),
    ]


class _Caches:
    def __init__(self, view: CacheView) -> None:
        self._view = view

    async def purge(self, request: web.Request) -> web.Response:
        """200 with tags, level and whether everybody has taken it; 400 for what makes no sense, 404 without a cache."""
        (kind, values), soft = _selection(request), _flag(request, "soft")
        purged = await self._view.purge(kind, values, soft=soft)
        if purged.problem:
            return problem(_STATUSES.get(purged.problem, 400), purged.problem)
        return json_response({"tags": purged.tags, "level": purged.level, "complete": purged.complete})

    async def show(self, _: web.Request) -> web.Response:
        """200, one entry for each process; 404 without a cache."""
        caches = await self._view.caches()
        return json_response({"caches": caches}) if caches else problem(404, NO_CACHE)

    async def show_entry(self, request: web.Request) -> web.Response:
        """200, also when nothing is stored: then with the reason. 400 without a URL."""
        url = request.query.get("url", "")
        if not url:
            raise web.HTTPBadRequest(text=_NO_URL)
        return json_response(await self._view.cache_entry(url))

    async def warm(self, _: web.Request) -> web.Response:
        """202 when it has begun, 409 while it runs, 404 where there is nothing to fetch."""
        match await self._view.warm():
            case "started":
                return json_response({"warming": True}, 202)
            case "running":
                return problem(409, _WARMING)
            case _:
                return problem(404, _NO_WARM)


def _selection(request: web.Request) -> tuple[SelectionKind, list[str]]:
    """Raises HTTPBadRequest."""
    query = request.query
    if not set(query) <= {*SELECTION_KINDS, "soft"}:
        raise web.HTTPBadRequest(text=_UNKNOWN)
    kinds = [kind for kind in SELECTION_KINDS if kind in query and (kind != "all" or _flag(request, "all"))]
    if len(kinds) != 1:
        raise web.HTTPBadRequest(text=_ONE_SELECTION)
    kind, values = kinds[0], query.getall(kinds[0])
    if kind == "all":
        return kind, []
    if len(values) > 1 and kind != "user":
        raise web.HTTPBadRequest(text=_ONE_SELECTION)
    if not all(values):
        raise web.HTTPBadRequest(text=_EMPTY)
    return kind, values


def _flag(request: web.Request, name: str) -> bool:
    """Raises HTTPBadRequest."""
    flag = _FLAGS.get(request.query[name].lower()) if name in request.query else False
    if flag is None:
        raise web.HTTPBadRequest(text=_NO_FLAG)
    return flag
