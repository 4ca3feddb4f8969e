"""Which cached responses a URL stands for: the way back from a target to the tags of what is stored for it."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from proxy.config.model import RouteConfig
from proxy.errors import ProxyError
from proxy.protocol.caching.keys import CacheKey, KeyMaker, Unkeyed
from proxy.routing import Router

URI: Final = "uri="
"""Begins the tag of one URL: of all users' and all variants' responses to it."""
PATH: Final = "path="
"""Begins the tag of one path with its query, under whatever authority it was asked for."""


class Target(NamedTuple):
    """What a GET of some URL would be."""

    route: RouteConfig
    maker: KeyMaker
    params: Mapping[str, str]
    path: str
    query: str | None

    def key(self, authority: str, scheme: str, user: bytes = b"") -> CacheKey | Unkeyed:
        """Under what its response would be stored."""
        return self.maker.make(authority, scheme, self.path, self.query, self.params, user)


class Targets:
    """The key makers of the routes that have a cache, by the name of the route; `bind` gives them the router."""

    __slots__ = ("_makers", "_router")

    def __init__(self, makers: Mapping[str, KeyMaker]) -> None:
        self._makers = makers
        self._router: Router[Any] | None = None

    def bind(self, router: Router[Any]) -> None:
        """From now on go by these routes: they can only be put together when the layers that need this are there."""
        self._router = router

    def find(self, target: str) -> Target | None:
        """What a GET of an origin-form target would be; None when no route with a cache takes it."""
        found = self.explain(target)
        return None if isinstance(found, str) else found

    def explain(self, target: str) -> Target | str:
        """What a GET of an origin-form target would be, or why its response is in no cache, as a sentence."""
        path, mark, query = target.partition("?")
        if self._router is None:
            return "The routes are not known yet."
        try:
            match = self._router.match("GET", path)
        except ProxyError as error:
            return f"No route takes a GET of it: {error.title}."
        maker = self._makers.get(match.route.name)
        if maker is None:
            return f"The route {match.route.name} has no cache."
        return Target(match.route, maker, match.params, path, query if mark else None)

    def tags_of(self, authority: str, scheme: str, target: str) -> list[str]:
        """The tag of all that is stored for this URL; none when nothing can be. `target` is in origin form."""
        return self._tags(authority, scheme, target, URI)

    def path_tags_of(self, target: str) -> list[str]:
        """The tag of all that is stored for this path and query, under any authority; none when nothing can be."""
        return self._tags("", "", target, PATH)

    def _tags(self, authority: str, scheme: str, target: str, kind: str) -> list[str]:
        found = self.find(target)
        key = None if found is None else found.key(authority, scheme)
        return [tag for tag in key.tags if tag.startswith(kind)] if isinstance(key, CacheKey) else []

    def __repr__(self) -> str:
        return f"<Targets {sorted(self._makers)}>"
