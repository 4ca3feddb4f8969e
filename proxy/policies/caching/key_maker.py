"""The key maker of a route: its configuration as the pure decisions take it."""

from proxy.config.model import RouteConfig
from proxy.protocol.caching.keys import KeyMaker


def key_maker(route: RouteConfig) -> KeyMaker | None:
    """None when the route has no cache."""
    config = route.cache
    if config is None:
        return None
    return KeyMaker(route.name, _origin(route), config.query, config.ignore_query, config.key, config.tags)


def _origin(route: RouteConfig) -> str:
    """Where the responses come from, with all that the route says of what is asked there and what may be kept of it.

    It is in each key: after a reload that changes it, nothing is sent that was stored by other rules, or under tags by
    which it would not be found any more.
    """
    config, edit = route.cache, route.headers.request
    rules = (
        () if config is None else (config.vary, config.set_cookie, config.respect_origin, config.per_user, config.tags)
    )
    return repr((route.name, route.upstream, route.rewrite, tuple(edit.set.items()), edit.remove, *rules))
