"""The part of `tidegate explain` about the cache: does it answer a request, under which key, for how long."""

from collections.abc import Iterator

from proxy.config.caching import CacheConfig
from proxy.config.quantities import format_duration
from proxy.exchange import Exchange
from proxy.policies.caching.key_maker import key_maker
from proxy.policies.caching.user import user_reader
from proxy.protocol.caching.directives import request_directives
from proxy.protocol.caching.keys import NO_USER, UNDECLARED_QUERY, CacheKey, Unkeyed
from proxy.protocol.caching.tags import ALL, fill_in, tag_of_pattern

Row = tuple[str, str]

_READS = ("GET", "HEAD")
_SAFE = (*_READS, "OPTIONS")


def caching(exchange: Exchange) -> Iterator[Row]:
    """What the caches would do with it, as names and texts. `exchange` has its route and its parameters."""
    cache, invalidate = exchange.route.cache, exchange.route.invalidate
    if cache is not None:
        yield from _cache(exchange, cache)
    else:
        yield "answers", f"no: route {exchange.route.name} has no `cache`"
    if exchange.request.method in _SAFE:
        return
    yield "makes outdated", "what is stored for this URL"
    if invalidate is not None:
        tags = _named([fill_in(tag_of_pattern(pattern), exchange.params) for pattern in invalidate.tags])
        yield "makes outdated", f"{tags} (only reported)" if invalidate.mode == "shadow" else tags


def _cache(exchange: Exchange, cache: CacheConfig) -> Iterator[Row]:
    key = _key(exchange, cache)
    if obstacle := _obstacle(exchange, cache, key):
        yield "answers", f"no: {obstacle}"
        return
    yield "answers", "; ".join(_answers(exchange, cache))
    if isinstance(key, CacheKey):
        yield "key", f"{key.text} ({key.digest.hex()})"
        yield "tags", _named(key.tags) or "-"
        if key.target is not None:
            yield "asks for", key.target
    yield "stores", "; ".join(_stores(exchange, cache))
    yield "fresh", "; ".join(_freshness(cache))
    yield "stale", "; ".join(_staleness(cache))


def _key(exchange: Exchange, cache: CacheConfig) -> CacheKey | Unkeyed:
    request, maker = exchange.request, key_maker(exchange.route)
    read_user = user_reader(cache.per_user)
    user = b"" if read_user is None else read_user(exchange)
    if user is None or maker is None:
        return NO_USER
    return maker.make(request.authority, exchange.scheme, request.path, request.query, exchange.params, user)


def _named(tags: list[str] | tuple[str, ...]) -> str:
    """The tags that people declare: those that are implied go without saying."""
    return ", ".join(
        "everything" if tag == ALL else tag for tag in tags if "=" not in tag and (tag != ALL or len(tags) == 1)
    )


# --- whether it answers ---------------------------------------------------------------------------------------------


def _obstacle(exchange: Exchange, cache: CacheConfig, key: CacheKey | Unkeyed) -> str:
    """Why the request passes the cache by, or ""."""
    request = exchange.request
    if request.method not in _READS:
        return f"{request.method} is neither GET nor HEAD"
    if request.fields.content_length or "Transfer-Encoding" in request.headers:
        return "the request has a body"
    if key == UNDECLARED_QUERY:
        return f"the parameter {_undeclared(request.query or '', cache)} is neither in `query` nor in `ignore_query`"
    if key == NO_USER:
        return f"the request has no {' and '.join(map(str, cache.per_user))}, by which `per_user` tells users apart"
    return ""


def _undeclared(query: str, cache: CacheConfig) -> str:
    names = [piece.partition("=")[0] for piece in query.split("&")]
    known = {*(cache.query or ()), *cache.ignore_query}
    return next(f'"{name}"' for name in names if name not in known)


def _answers(exchange: Exchange, cache: CacheConfig) -> Iterator[str]:
    directives = request_directives(exchange.request.fields.raw)
    if cache.mode == "shadow":
        yield "no, `mode: shadow` only reports that it could"
    elif directives.no_cache or directives.max_age == 0:
        yield "yes, once the upstream has said that what is stored still holds: the request asks for that"
    elif directives.only_if_cached:
        yield "yes, or 504: the request must not go to the upstream"
    else:
        yield "yes, as long as what is stored is fresh"
    if "Range" in exchange.request.headers:
        yield "with the range that the request asks for"


# --- what is stored, and for how long -------------------------------------------------------------------------------


def _stores(exchange: Exchange, cache: CacheConfig) -> Iterator[str]:
    headers = exchange.request.headers
    credentials = [name for name in ("Authorization", "Cookie") if name in headers]
    if request_directives(exchange.request.fields.raw).no_store:
        yield "nothing: the request says no-store"
        return
    if cache.per_user:
        yield f"for one user, `private` too (told apart by {', '.join(map(str, cache.per_user))})"
    elif credentials:
        yield f"because of {' and '.join(credentials)} only what says public, s-maxage or must-revalidate"
    else:
        yield "what the standard allows a shared cache"
    if cache.set_cookie == "refuse":
        yield "nothing with Set-Cookie"
    if cache.vary:
        yield f"told apart by {', '.join(cache.vary)} and the response's Vary"


def _freshness(cache: CacheConfig) -> Iterator[str]:
    if cache.ttl is None:
        yield "as the response says, else a tenth of the time since Last-Modified, at most 1d"
    elif cache.respect_origin:
        yield f"as the response says, else {format_duration(cache.ttl)}"
    else:
        yield f"{format_duration(cache.ttl)}, whatever the response says"
    if cache.negative_ttl is not None:
        yield f"404, 405, 410, 414 and 501 {format_duration(cache.negative_ttl)}"


def _staleness(cache: CacheConfig) -> Iterator[str]:
    windows = (
        (cache.stale_while_revalidate, "while it is fetched anew"),
        (cache.stale_if_error, "in place of an error"),
    )
    told = [f"{format_duration(window)} {purpose}" for window, purpose in windows if window is not None]
    yield f"as the response says, else {' and '.join(told)}" if told else "as the response says"
