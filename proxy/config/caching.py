"""What may be written about caching, in its long form: of a route, of what a change makes outdated, of the memory."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from proxy.config.base import Model
from proxy.config.policies import Policy
from proxy.config.policy_types import (
    ClientKey,
    KeyTemplate,
    QueryName,
    Rate,
    TagPattern,
    TagTemplate,
    VaryName,
    one_or_several,
)
from proxy.config.types import Authority, ByteSize, Count, Duration, Flag, OffAble, UrlPath


class CacheConfig(Policy):
    """What of a route's responses is kept. Without any key it is the standard (RFC 9111) alone."""

    ttl: Duration | None = None
    """Freshness lifetime of a storable response that brings none."""
    respect_origin: Flag = True
    """False: `ttl` is the lifetime of every response that may be stored."""
    query: tuple[QueryName, ...] | None = None
    """Query parameters that the key has; a request with any other is not answered from the cache. None: all of them."""
    ignore_query: tuple[QueryName, ...] = ()
    """Query parameters without a meaning: they are in no key, and not sent to the upstream."""
    vary: tuple[VaryName, ...] = ()
    """Request fields that tell responses apart, beside what the upstream's Vary says."""
    key: KeyTemplate | None = None
    """The key for people, such as `property:{id}`; None: method, authority and path."""
    tags: tuple[TagTemplate, ...] = ()
    """What the responses can be purged by."""
    negative_ttl: OffAble[Duration] = None
    """Freshness lifetime of a 404, 405, 410, 414 or 501 that brings none; off: they are kept only if they bring one."""
    per_user: Annotated[
        tuple[ClientKey, ...], BeforeValidator(one_or_several, json_schema_input_type=ClientKey | tuple[ClientKey, ...])
    ] = ()
    """What tells users apart who must not see each other's responses; their responses may then be `private`."""
    set_cookie: Literal["refuse", "store"] = "refuse"
    """Whether a response with Set-Cookie may be stored, as the standard allows."""
    stale_while_revalidate: OffAble[Duration] = None
    """How long after its freshness a response is sent while it is fetched anew; what the upstream says goes before."""
    stale_if_error: OffAble[Duration] = None
    """How long after its freshness a response stands in for an error; what the upstream says goes before."""
    early_refresh: Flag = True
    """Whether what is asked for often is fetched anew shortly before the end of its freshness."""
    max_body: ByteSize = 1024 * 1024
    """A longer response passes without being kept."""
    max_variants: Count = 64
    """Responses kept for one key, told apart by Vary."""
    redis: Flag = True
    """Whether responses are shared through Redis, where there is one."""


class InvalidateConfig(Policy):
    """What a change of data makes outdated."""

    tags: Annotated[tuple[TagPattern, ...], Field(min_length=1)]
    """`property:{id}` is a tag, `properties:list:*` the tag `properties:list` with all below it."""


class WarmConfig(Model):
    """What is fetched into the cache before anybody asks for it."""

    urls: tuple[UrlPath, ...] = ()
    source: UrlPath | None = Field(None, alias="from")
    """A path of the upstream whose answer lists URLs: JSON with paths or ids, a sitemap, or one URL a line."""
    rate: Rate = Rate(10, 1.0)
    limit: Count = 1000
    """The most that are fetched."""
    ready: Flag = False
    """Whether the instance is ready only when it is warm."""
    scheme: Literal["http", "https"] = "http"
    """What clients use, be it on the other side of a trusted proxy: it is in the keys."""
    host: Authority | None = None
    """The authority that is asked for; None: that of the route's first endpoint."""

    @model_validator(mode="after")
    def _has_something_to_fetch(self) -> Self:
        if not self.urls and self.source is None:
            raise ValueError(
                "nothing to fetch: write `urls: [/path]`, or `from: /path` of the upstream that lists them"
            )
        return self


class CacheStoreConfig(Model):
    """The memory that all routes' caches share, and what happens to it."""

    max_bytes: ByteSize = 64 * 1024 * 1024
    """Keys, header fields and overhead included; divided among workers."""
    max_entries: Count = 1000
    max_gap: Duration = 10.0
    """How long a response in memory is used on while word of changes elsewhere does not get through."""
    compress_above: OffAble[ByteSize] = 4096
    """Bodies from this size on are compressed for Redis."""
    warm: WarmConfig | None = None
