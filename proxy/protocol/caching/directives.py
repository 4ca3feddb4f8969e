"""What the cache directives of a request or a response say (RFC 9111 section 5.2, RFC 5861, RFC 8246).

Where a directive comes twice, the value that restricts more counts, and so it is for those that contradict each other
(section 4.2.1). A lifetime that is no whole number of seconds is 0: stale, as the same section encourages. An argument
that a directive may not have is no reason to overlook one that forbids something, but takes the force from one that
allows something.
"""

from collections.abc import Iterable
from functools import lru_cache
from math import inf
from typing import Final

from proxy.protocol.caching.cache_control import Member, delta_seconds, field_names, members_of
from proxy.protocol.headers import RawHeaders

_REMEMBERED: Final = 256
"""Bytes of a request's Cache-Control up to which it is parsed once."""


class RequestDirectives:
    """What the client asks of caches (section 5.2.1). Numbers are seconds, None where it says nothing."""

    __slots__ = (
        "max_age",
        "max_stale",
        "min_fresh",
        "no_cache",
        "no_store",
        "only_if_cached",
        "stale_if_error",
    )

    def __init__(self) -> None:
        self.no_cache = False
        self.no_store = False
        self.only_if_cached = False
        self.max_age: int | None = None
        """0 also for a max-age that is no number."""
        self.min_fresh: int | None = None
        self.max_stale: float | None = None
        """Infinite where any staleness will do."""
        self.stale_if_error: int | None = None


NO_DIRECTIVES: Final = RequestDirectives()
"""Those of a request that has none."""


def request_directives(fields: RawHeaders) -> RequestDirectives:
    """From Cache-Control, and from `Pragma: no-cache` where there is no Cache-Control (section 5.4)."""
    lines = []
    pragmas = []
    for name, value in fields:
        lower = name.lower()
        if lower == b"cache-control":
            lines.append(value)
        elif lower == b"pragma":
            pragmas.append(value)
    if not lines:
        return _parsed((b"no-cache",)) if pragmas and _says_no_cache(pragmas) else NO_DIRECTIVES
    return _parsed(tuple(lines)) if sum(map(len, lines)) <= _REMEMBERED else _parsed.__wrapped__(tuple(lines))


def _says_no_cache(pragmas: list[bytes]) -> bool:
    return any(name == b"no-cache" for name, _ in members_of(pragmas))


@lru_cache(maxsize=512)
def _parsed(lines: tuple[bytes, ...]) -> RequestDirectives:
    said = RequestDirectives()
    for name, argument in members_of(lines):
        seconds = delta_seconds(argument)
        match name:
            case b"no-cache":
                said.no_cache = True
            case b"no-store":
                said.no_store = True
            case b"only-if-cached":
                said.only_if_cached = True
            case b"max-age":
                said.max_age = _smaller(said.max_age, seconds or 0)
            case b"min-fresh" if seconds is not None:
                said.min_fresh = max(said.min_fresh or 0, seconds)
            case b"max-stale":
                said.max_stale = min(inf if said.max_stale is None else said.max_stale, _staleness(argument))
            case b"stale-if-error" if seconds is not None:
                said.stale_if_error = _smaller(said.stale_if_error, seconds)
            case _:
                pass
    return said


def _smaller(one: int | None, other: int) -> int:
    return other if one is None else min(one, other)


def _staleness(argument: bytes | None) -> float:
    """Of max-stale: any without an argument, none for one that is no number."""
    return inf if argument is None else delta_seconds(argument) or 0.0


class ResponseDirectives:
    """What the origin demands of caches (section 5.2.2). Numbers are seconds, None where it says nothing."""

    __slots__ = (
        "hidden",
        "immutable",
        "is_targeted",
        "max_age",
        "must_revalidate",
        "must_understand",
        "no_cache",
        "no_store",
        "private",
        "proxy_revalidate",
        "public",
        "s_maxage",
        "stale_if_error",
        "stale_while_revalidate",
    )

    def __init__(self, members: Iterable[Member], *, is_targeted: bool = False) -> None:
        self.no_store = False
        self.must_revalidate = False
        self.proxy_revalidate = False
        self.immutable = False
        self.public = False
        self.must_understand = False
        self.no_cache = False
        """Of the whole response; one for some fields only adds to `hidden`. The same holds for `private`."""
        self.private = False
        self.hidden: frozenset[bytes] = frozenset()
        """Names in lower case of fields that are not stored."""
        self.max_age: int | None = None
        self.s_maxage: int | None = None
        self.stale_while_revalidate: int | None = None
        self.stale_if_error: int | None = None
        self.is_targeted = is_targeted
        """Whether they are from a field for caches like this one: then Cache-Control and Expires mean nothing."""
        for name, argument in members:
            self._read(name, argument)

    def _read(self, name: bytes, argument: bytes | None) -> None:
        if attribute := _FLAGS.get(name):
            setattr(self, attribute, True)
        elif attribute := _SECONDS.get(name):
            setattr(self, attribute, _smaller(getattr(self, attribute), delta_seconds(argument) or 0))
        elif attribute := _QUALIFIED.get(name):
            if names := field_names(argument):
                self.hidden |= names
            else:
                setattr(self, attribute, True)
        elif (attribute := _GRANTS.get(name)) and argument is None:
            setattr(self, attribute, True)

    @property
    def forbids_stale(self) -> bool:
        """Whether, once stale, it is validated before any use by a shared cache."""
        return self.must_revalidate or self.proxy_revalidate or self.s_maxage is not None

    @property
    def shares_credentials(self) -> bool:
        """Whether a shared cache may store what answers a request with Authorization (section 3.5)."""
        return self.public or self.must_revalidate or self.s_maxage is not None


_FLAGS: Final = {
    b"no-store": "no_store",
    b"must-revalidate": "must_revalidate",
    b"proxy-revalidate": "proxy_revalidate",
    b"immutable": "immutable",  # an argument means nothing (RFC 8246 section 2)
}
_SECONDS: Final = {
    b"max-age": "max_age",
    b"s-maxage": "s_maxage",
    b"stale-while-revalidate": "stale_while_revalidate",
    b"stale-if-error": "stale_if_error",
}
_QUALIFIED: Final = {b"no-cache": "no_cache", b"private": "private"}
_GRANTS: Final = {b"public": "public", b"must-understand": "must_understand"}

KNOWN: Final = frozenset({*_FLAGS, *_SECONDS, *_QUALIFIED, *_GRANTS})
"""Response directives that change what this cache does."""
SECONDS: Final = frozenset(_SECONDS)
QUALIFIED: Final = frozenset(_QUALIFIED)
