"""Contradictions within and between what a file says about caching."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.config.caching import CacheConfig, InvalidateConfig
from proxy.config.check_policies import layers_of
from proxy.config.checked import Checked, Finding
from proxy.config.document import Loc
from proxy.config.forms import RouteForm
from proxy.config.policies import FallbackConfig
from proxy.config.quantities import format_duration, format_size
from proxy.config.resolve_policies import PolicyResolver
from proxy.config.scalar import quoted

_PLACEHOLDER = re.compile(r"\{([^}]*)\}")
_QUERY = "query."
_LARGEST_SHARE = 4
"""One response takes at most a quarter of the memory."""


@dataclass(frozen=True, slots=True)
class _Route:
    """A sound route with its effective policies."""

    path: Loc
    form: RouteForm
    cache: CacheConfig | None
    invalidate: InvalidateConfig | None
    fallback: FallbackConfig | None

    def place(self, checked: Checked, *within: str | int) -> Loc:
        """Where this is written for the route; what it has from the defaults is told at the route."""
        return checked.document.existing((*self.path, *within))


def _routes(checked: Checked) -> Iterator[_Route]:
    for path, route in checked.routes():
        resolver = PolicyResolver(checked.form, checked.document, checked.folder, {})
        policies = resolver.caching_of_route(route.name, layers_of(checked, path, route))
        yield _Route(path, route, **policies)


def find_caching_contradictions(checked: Checked) -> Iterator[Finding]:
    """All of them."""
    for route in _routes(checked):
        if route.cache is not None:
            yield from _cache(checked, route, route.cache)
        if route.invalidate is not None:
            yield from _tags(checked, route, "invalidate", route.invalidate.tags, route.form.writes)
        yield from _steps(checked, route)


def find_caching_doubts(checked: Checked) -> Iterator[Finding]:
    """What is allowed but is rarely meant. For a form without mistakes."""
    routes = list(_routes(checked))
    templates = [tag for route in routes if route.cache is not None for tag in route.cache.tags]
    for route in routes:
        if route.cache is not None:
            yield from _doubts_of_cache(checked, route, route.cache)
        if route.invalidate is not None:
            yield from _doubts_of_invalidation(checked, route, route.invalidate, templates)
    yield from _doubts_of_store(checked, any(route.cache is not None for route in routes))


# --- one route's cache ----------------------------------------------------------------------------------------------


def _cache(checked: Checked, route: _Route, cache: CacheConfig) -> Iterator[Finding]:
    if not route.form.reads:
        yield route.place(checked, "cache"), f"route {quoted(route.form.name)} takes no GET: there is nothing to cache"
    if not cache.respect_origin and cache.ttl is None:
        where = route.place(checked, "cache", "respect_origin")
        yield where, "`respect_origin: false` needs a `ttl`: nothing else would say how long a response is fresh"
    both = [name for name in cache.ignore_query if name in (cache.query or ())]
    if both:
        where = route.place(checked, "cache", "ignore_query")
        yield where, f"{quoted(both[0])} is in `query` and in `ignore_query`: it either counts or it does not"
    yield from _tags(checked, route, "cache", cache.tags, route.form.reads)
    yield from _key(checked, route, cache)
    for key in cache.per_user:
        if key.kind == "param" and (missing := _without(route.form.reads, key.name)):
            yield route.place(checked, "cache", "per_user"), f"{missing} has no parameter {{{key.name}}} for `per_user`"


def _key(checked: Checked, route: _Route, cache: CacheConfig) -> Iterator[Finding]:
    where = route.place(checked, "cache", "key")
    for name in _PLACEHOLDER.findall(cache.key or ""):
        counted = name.removeprefix(_QUERY)
        if counted == name:
            yield from _path_name(where, route, cache, name)
        elif counted in cache.ignore_query or (cache.query is not None and counted not in cache.query):
            yield where, f"the key has {{{name}}}, which `query` and `ignore_query` leave out of it"


def _path_name(where: Loc, route: _Route, cache: CacheConfig, name: str) -> Iterator[Finding]:
    missing = _without(route.form.reads, name)
    if name == "user" and missing and not cache.per_user:
        yield where, "the key has {user}: say in `per_user` who that is"
    elif name not in ("user", "hash") and missing:
        yield where, f"{missing} has no parameter {{{name}}} for the key"


def _without(matches: Sequence[str], name: str) -> str:
    """The first match without the parameter, or ""."""
    return next((match for match in matches if f"{{{name}}}" not in match), "")


def _tags(
    checked: Checked, route: _Route, key: str, templates: Sequence[str], matches: Sequence[str]
) -> Iterator[Finding]:
    for index, template in enumerate(templates):
        for name in _PLACEHOLDER.findall(template):
            if missing := _without(matches, name):
                where = _tag_place(checked, route, key, index)
                yield where, f"{missing} has no parameter {{{name}}} for the tag {quoted(template)}"


def _tag_place(checked: Checked, route: _Route, key: str, index: int) -> Loc:
    is_short = isinstance(checked.document.get((*route.path, key)), tuple)
    return route.place(checked, key, index) if is_short else route.place(checked, key, "tags", index)


def _steps(checked: Checked, route: _Route) -> Iterator[Finding]:
    for step in route.fallback.steps if route.fallback is not None else ():
        word = "stale" if step.stale else "last_known_good" if step.last_known_good else ""
        if word and route.cache is None:
            yield (
                route.place(checked, "fallback"),
                f"`{word}` is what the cache holds, and route {quoted(route.form.name)} has none: write `cache: {{}}`",
            )


# --- doubts ---------------------------------------------------------------------------------------------------------


def _doubts_of_cache(checked: Checked, route: _Route, cache: CacheConfig) -> Iterator[Finding]:
    share = checked.form.cache.max_bytes // checked.form.server.workers // _LARGEST_SHARE
    if cache.max_body > share:
        yield (
            route.place(checked, "cache", "max_body"),
            f"`max_body` of route {quoted(route.form.name)} ({format_size(cache.max_body)}) is more than a quarter of "
            f"the memory of a process: what is longer than {format_size(max(share, 1))} is not kept in it",
        )
    revalidate, on_error = cache.stale_while_revalidate, cache.stale_if_error
    if revalidate is not None and on_error is not None and on_error <= revalidate:
        yield (
            route.place(checked, "cache", "stale_if_error"),
            f"`stale_if_error` ({format_duration(on_error)}) adds nothing: a stale response is sent for "
            f"{format_duration(revalidate)} anyway (`stale_while_revalidate`)",
        )
    steps = route.fallback.steps if route.fallback is not None else ()
    if cache.mode == "shadow" and any(step.stale or step.last_known_good for step in steps):
        where = route.place(checked, "fallback")
        yield where, "a cache in `mode: shadow` holds nothing that `fallback` could take"


def _doubts_of_invalidation(
    checked: Checked, route: _Route, invalidate: InvalidateConfig, templates: Sequence[str]
) -> Iterator[Finding]:
    if not route.form.writes:
        where = route.place(checked, "invalidate")
        yield where, f"route {quoted(route.form.name)} takes only GET, HEAD and OPTIONS, which change nothing"
    for index, pattern in enumerate(invalidate.tags):
        if not any(_can_hit(pattern, template) for template in templates):
            where = _tag_place(checked, route, "invalidate", index)
            yield where, f"no cache has a tag that {quoted(pattern)} could mean"


def _can_hit(pattern: str, template: str) -> bool:
    """Whether a purge of `pattern` can hit a response with the tag of `template`."""
    if pattern == "*":
        return True
    words, others = pattern.removesuffix(":*").split(":"), template.split(":")
    if len(words) > len(others):
        return False
    return all("{" in word + other or word == other for word, other in zip(words, others, strict=False))


def _doubts_of_store(checked: Checked, has_caches: bool) -> Iterator[Finding]:
    form = checked.form
    warm = form.cache.warm
    if warm is not None and not has_caches:
        yield ("cache", "warm"), "no route has a cache that could be warmed"
    hosts = [str(host) for host in form.server.hosts]
    if warm is not None and hosts and (warm.host is None or str(warm.host) not in hosts):
        yield (
            ("cache", "warm"),
            f"`host` should be one that is served, or nobody finds what is warm: {', '.join(hosts)}",
        )
    redis: Any = form.redis
    if form.server.workers > 1 and has_caches and (redis is None or redis.url is None):
        yield (
            ("server", "workers"),
            "without `redis` each worker has a cache of its own: each fetches for itself, and a change that one worker "
            "sees reaches the others some milliseconds later",
        )
