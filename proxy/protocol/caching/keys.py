"""Keys of stored responses. What two requests do not share in every part cannot make them share a response.

The digest is taken over upstream, scheme, authority, path, query and user, each preceded by its length. The method is
not in it: only responses to GET are stored. The readable key beside it is for people alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple
from urllib.parse import quote

from proxy.protocol.caching.tags import ALL, escaped, fill_in, path_tag, route_tag, uri_tag, user_tag, with_prefixes

PLACEHOLDER: Final = re.compile(r"\{(query\.[A-Za-z0-9_.~:%\[\]-]{1,64}|[A-Za-z_][A-Za-z0-9_]*)\}")
"""In the template of a readable key."""
USER: Final = "user"
HASH: Final = "hash"
QUERY: Final = "query."

_REMEMBERED: Final = 1024
"""Keys in each of two generations."""
_LONGEST_REMEMBERED: Final = 512
"""Characters of a request's parts; longer ones would be an easy way to fill the memory."""
_LONGEST_TEXT: Final = 256
_PRINTED: Final = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(slots=True)
class CacheKey:
    """What a response to GET is stored under. Nobody changes it: the same requests are given the same object."""

    digest: bytes
    """16 bytes."""
    uri: str
    """Digest of authority, path and query, hex."""
    path: str
    """Digest of path and query, hex."""
    text: str
    """Readable, at most 256 characters; two keys may have the same."""
    tags: tuple[str, ...]
    """All that the response can be purged by."""
    target: str | None
    """Origin form that a fill asks for where it is not the request's own; None: that."""


@dataclass(frozen=True, slots=True)
class Unkeyed:
    """The request has no key: its response is neither looked up nor stored."""

    reason: str
    """A fixed word for metrics and Cache-Status."""


UNDECLARED_QUERY: Final = Unkeyed("query")
"""It has a query parameter that the route does not declare."""
NO_USER: Final = Unkeyed("user")
"""The route tells users apart, and it does not say whose it is."""


class _Query(NamedTuple):
    """The query as it counts."""

    pieces: tuple[str, ...]
    """`name=value` each, as sent."""
    marked: bytes
    """In the key: unlike queries are unlike bytes."""
    target: str | None
    """What is asked for, if it is not what came."""


class KeyMaker:
    """Makes the keys of one route's requests, and remembers those of recent ones."""

    __slots__ = ("_declared", "_ignored", "_older", "_recent", "_route", "_tags", "_text", "_upstream")

    def __init__(
        self,
        route_name: str,
        upstream: str,
        query: Sequence[str] | None = None,
        ignore_query: Sequence[str] = (),
        key_template: str | None = None,
        tag_templates: Sequence[str] = (),
    ) -> None:
        """With `query`, a request with any parameter that is in neither list has no key; None: all parameters count."""
        self._route = route_name
        self._upstream = upstream.encode()
        self._declared = None if query is None else frozenset(query)
        self._ignored = frozenset(ignore_query)
        self._text = None if key_template is None else PLACEHOLDER.split(key_template)
        self._tags = tuple(tag_templates)
        self._recent: dict[tuple[str, str, str, str | None, bytes], CacheKey | Unkeyed] = {}
        self._older = self._recent

    def make(
        self,
        request_authority: str,
        scheme: str,
        path: str,
        query: str | None,
        params: Mapping[str, str],
        user: bytes = b"",
    ) -> CacheKey | Unkeyed:
        """The key of a GET; `params` are those of the route's match for it, `user` whose request it is."""
        parts = (request_authority, scheme, path, query, user)
        return self._recent.get(parts) or self._look_back(parts, params)

    def _look_back(
        self, parts: tuple[str, str, str, str | None, bytes], params: Mapping[str, str]
    ) -> CacheKey | Unkeyed:
        key = self._older.get(parts) or self._made(*parts, params)
        if sum([len(part) for part in parts if part]) <= _LONGEST_REMEMBERED:
            if len(self._recent) >= _REMEMBERED:
                self._older, self._recent = self._recent, {}
            self._recent[parts] = key
        return key

    def _made(
        self, authority: str, scheme: str, path: str, query: str | None, user: bytes, params: Mapping[str, str]
    ) -> CacheKey | Unkeyed:
        counted = self._counted(path, query)
        if counted is None:
            return UNDECLARED_QUERY
        authority = canonical_authority(authority, scheme)
        origin, raw_path = authority.encode("utf-8", "surrogateescape"), path.encode("utf-8", "surrogateescape")
        parts = (self._upstream, scheme.encode(), origin, raw_path, counted.marked, user)
        uri, by_path = _digest(origin, raw_path, counted.marked).hex(), _digest(raw_path, counted.marked).hex()
        if self._text is None:
            text = _printable(f"GET {authority}{counted.target or (path if query is None else f'{path}?{query}')}")
        else:
            text = _text(self._text, f"{scheme}://{authority}", params, counted.pieces, user)
        return CacheKey(_digest(*parts), uri, by_path, text, self._all_tags(uri, by_path, params, user), counted.target)

    def _counted(self, path: str, query: str | None) -> _Query | None:
        """None: there is a parameter that is not declared."""
        if query is None:
            return _Query((), b"", None)
        pieces = query.split("&")
        kept = [piece for piece in pieces if _name(piece) not in self._ignored] if self._ignored else pieces
        is_changed = len(kept) < len(pieces)
        if self._declared is None:
            marked = b"?" + "&".join(kept).encode("utf-8", "surrogateescape") if kept else b""
        else:
            if not query:
                kept, is_changed = [], True  # the same as none, and asked for as such
            if not self._declared.issuperset(map(_name, kept)):
                return None
            ordered = sorted(kept, key=_name)
            marked = _joined([piece.encode("utf-8", "surrogateescape") for piece in ordered])
        target = (f"{path}?{'&'.join(kept)}" if kept else path) if is_changed else None
        return _Query(tuple(kept), marked, target)

    def _all_tags(self, uri: str, path: str, params: Mapping[str, str], user: bytes) -> tuple[str, ...]:
        declared = [tag for template in self._tags for tag in with_prefixes(fill_in(template, params))]
        implied = [ALL, route_tag(self._route), uri_tag(uri), path_tag(path)]
        return tuple(dict.fromkeys([*declared, *implied, *([user_tag(user)] if user else ())]))


def canonical_authority(authority: str, scheme: str) -> str:
    """In lower case, and without the port that the scheme has anyway (RFC 9110 section 4.2.3)."""
    return authority.lower().removesuffix(":443" if scheme == "https" else ":80")


def _name(piece: str) -> str:
    return piece.partition("=")[0]


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


def _digest(*parts: bytes, size: int = 16) -> bytes:
    return blake2b(_joined(parts), digest_size=size).digest()


# --- for people -----------------------------------------------------------------------------------------------------


def _text(template: Sequence[str], origin: str, params: Mapping[str, str], pieces: Sequence[str], user: bytes) -> str:
    """`template` is text and placeholders, in turn."""
    names = template[1::2]
    words = list(template)
    for index in range(1, len(words), 2):
        words[index] = _word(words[index], names, origin, params, pieces, user)
    return _printable("".join(words))


def _word(
    name: str, named: Sequence[str], origin: str, params: Mapping[str, str], pieces: Sequence[str], user: bytes
) -> str:
    if name in params:
        return escaped(params[name])
    if name.startswith(QUERY):
        values = [piece.partition("=")[2] for piece in pieces if QUERY + _name(piece) == name]
        return ",".join(values)
    if name == USER:
        return _digest(user, size=6).hex()
    rest = [origin, *(f"{key}/{value}" for key, value in sorted(params.items()) if key not in named)]
    rest += [piece for piece in sorted(pieces, key=_name) if QUERY + _name(piece) not in named]
    parts = [part.encode("utf-8", "surrogateescape") for part in rest]
    return _digest(*parts, b"" if USER in named else user, size=6).hex()


def _printable(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        text = quote(text.encode("utf-8", "surrogateescape"), safe=_PRINTED + " ")
    return text[:_LONGEST_TEXT]
