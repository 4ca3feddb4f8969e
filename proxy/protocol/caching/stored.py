"""The nouns of the cache's decisions: the route's rules, the terms of a response, a stored response."""

from dataclasses import dataclass, field
from enum import IntEnum


class Validity(IntEnum):
    """What has become of a stored response since it was filled, apart from its age; the larger outdoes the smaller."""

    VALID = 0
    SOFT = 1
    """Purged softly: as if its freshness had ended then. It may be sent where a stale response may."""
    INVALID = 2
    """What it shows has changed: never sent before the upstream has validated it, not on errors either."""
    GONE = 3
    """Purged: not used for anything any more."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a route says about its cache, beside the standard. All of it holds only where the standard leaves room."""

    ttl: float | None = None
    """Freshness lifetime of a storable response that brings none."""
    respect_origin: bool = True
    """False: `ttl` is the lifetime of each response that may be stored, whatever lifetime it brings."""
    negative_ttl: float | None = None
    """Freshness lifetime of a 404, 405, 410, 414 or 501 that brings none; `ttl` is not for those."""
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None
    """Windows after the end of the freshness, where the response does not say; None: none."""
    stores_cookies: bool = False
    """Whether a response with Set-Cookie may be stored."""
    is_private: bool = False
    """The key has the user in it: `private` responses, and those to requests with credentials, may be stored."""
    vary: tuple[bytes, ...] = ()
    """Names in lower case of request fields that tell responses apart, beside what Vary says."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a response may be stored and used: all that its head says, once and for all."""

    refusal: str
    """Why it is not stored, a fixed word for metrics and Cache-Status; empty: it may be."""
    date: float = 0.0
    """Its Date, or when it was received."""
    born: float = 0.0
    """When its age was 0: the time of its receipt less the corrected initial age (RFC 9111 section 4.2.3)."""
    lifetime: float = 0.0
    """Freshness lifetime (section 4.2.1), 0 when it is stale from the start."""
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    """Windows after the end of the freshness; 0 where must-revalidate and its like forbid any."""
    forbids_stale: bool = False
    """must-revalidate, proxy-revalidate or s-maxage: once stale, only after validation."""
    always_validates: bool = False
    """no-cache without field names: never without validation."""
    is_immutable: bool = False
    """RFC 8246: no validation while fresh, not even if the request limits the age; its no-cache is heeded."""
    vary: tuple[bytes, ...] = ()
    """Names in lower case, sorted, of the request fields that select it; `*` alone matches nothing."""
    etag: bytes = b""
    """As received, W/ and quotes included; empty without one."""
    last_modified: float | None = None

    @property
    def fresh_until(self) -> float:
        """When its freshness ends."""
        return self.born + self.lifetime

    @property
    def has_validator(self) -> bool:
        """Whether the upstream can be asked if it still holds."""
        return bool(self.etag) or self.last_modified is not None


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes of a representation a body is."""

    first: int
    complete_length: int
    """Bytes of the whole representation."""


@dataclass(slots=True)
class StoredResponse:
    """One response as a cache keeps it. Nobody changes it: what replaces it is a new one."""

    status: int
    """200 also where the stored body is only a part of it."""
    reason: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    """What a hit sends, in wire order and spelling, Date among them. Not among them: hop-by-hop fields, Content-Length,
    Content-Range, Age, and those that `private` or `no-cache` name."""
    body: bytes
    terms: Terms
    part: Part | None = None
    """None: `body` is all of it."""
    variant: bytes = b""
    """Selects it among the responses of its key: `vary.variant_of` the request that it answered."""
    fill_seconds: float = 0.0
    """How long the upstream took, for early refreshes."""
    tags: tuple[str, ...] = field(default=())
    """All tags that it can be purged by, those implied by others included."""
