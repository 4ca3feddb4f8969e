"""Which request fields tell the responses of one key apart, and their values made comparable (RFC 9111 section 4.1)."""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from proxy.protocol.fields import TOKEN_BYTES
from proxy.protocol.headers import RawHeaders

STAR: Final = (b"*",)
"""Selected by more than the request says: matches nothing."""

_IMPLIED: Final = {
    b"content-encoding": b"accept-encoding",
    b"content-language": b"accept-language",
    b"access-control-allow-origin": b"origin",
}
"""What a response depends on, too, whose upstream has forgotten to say so."""

_OWS: Final = b" \t"
_EXACT: Final = frozenset({b"authorization", b"cookie", b"from", b"origin", b"referer", b"user-agent"})
"""Values that are no lists: a comma in them is part of the text."""
_BY_WEIGHT: Final = frozenset({b"accept", b"accept-charset", b"accept-language"})
_SAME_CODING: Final = {b"x-gzip": b"gzip", b"x-compress": b"compress"}
"""RFC 9110 section 8.4.1."""
_WEIGHT: Final = re.compile(rb"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_PIECE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|,|[^",]+|"', re.DOTALL)
_REMEMBERED: Final = 512
"""Bytes of fields up to which their variant is remembered."""


def vary_of(response_fields: RawHeaders, extra: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Names in lower case, sorted, of the request fields that select this response; `STAR` alone for none that do.

    Those of Vary, those that other fields imply, and `extra`. A Vary that has a member which is no name is a star.
    """
    names = set(extra)
    for name, value in response_fields:
        lower = name.lower()
        if lower == b"vary":
            names.update(map(_name, filter(None, (member.strip(_OWS) for member in value.split(b",")))))
        elif lower in _IMPLIED and _is_chosen(lower, value.strip(_OWS)):
            names.add(_IMPLIED[lower])
    return STAR if b"*" in names else tuple(sorted(names))


def variant_of(names: tuple[bytes, ...], request_fields: RawHeaders) -> bytes:
    """16 bytes that are the same for requests whose fields of these names match; empty for no names.

    A field that is absent matches only its absence. Values are length-prefixed, so no value can pass for two.
    """
    if not names:
        return b""
    wanted = _folded_all(names)
    picked = tuple([field for field in request_fields if _FOLDED[field[0]] in wanted])
    size = 0
    for name, value in picked:
        size += len(name) + len(value)
    return _digest(names, picked) if size <= _REMEMBERED else _digest.__wrapped__(names, picked)


def _name(member: bytes) -> bytes:
    return b"*" if member.translate(None, TOKEN_BYTES) else member.lower()


def _is_chosen(lower: bytes, value: bytes) -> bool:
    return bool(value) and not (lower == b"access-control-allow-origin" and value == b"*")


def _value_of(name: bytes, fields: RawHeaders) -> tuple[bytes | None, bytes | None]:
    """The lines of a field joined, as they may be (RFC 9110 section 5.3); None for none.

    Many servers read `X_Foo` as `X-Foo`. Others do not, so what comes under such a name is kept apart.
    """
    value = twin = None
    for spelling, line in fields:
        lower = spelling.lower()
        if lower == name:
            value = line if value is None else value + b"," + line
        elif b"_" in lower and lower.replace(b"_", b"-") == name:
            twin = line if twin is None else twin + b"," + line
    return value, twin


class _Folded(dict[bytes, bytes]):
    """Names as those who read `_` as `-` see them, by the spellings seen so far; bounded like `KINDS`."""

    _MAX_NAMES: Final = 1024
    _MAX_LENGTH: Final = 64

    def __missing__(self, name: bytes) -> bytes:
        folded = name.lower().replace(b"_", b"-")
        if len(self) < self._MAX_NAMES and len(name) <= self._MAX_LENGTH:
            self[name] = folded
        return folded


_FOLDED: Final = _Folded()


@lru_cache(maxsize=256)
def _folded_all(names: tuple[bytes, ...]) -> frozenset[bytes]:
    return frozenset([name.replace(b"_", b"-") for name in names])


@lru_cache(maxsize=1024)
def _digest(names: tuple[bytes, ...], picked: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Of all fields that are `picked`: of these names, in any spelling."""
    pieces = []
    for name in names:
        value, twin = _value_of(name, picked)
        pieces += [_prefixed(name), _prefixed(_normalised(name, value)), _prefixed(_normalised(name, twin))]
    return blake2b(b"".join(pieces), digest_size=16).digest()


def _prefixed(value: bytes | None) -> bytes:
    return b"\0" if value is None else b"\1" + len(value).to_bytes(4, "big") + value


def _normalised(name: bytes, value: bytes | None) -> bytes | None:
    """What is the same for values that mean the same by the definition of the field. The first byte tells the forms."""
    if value is None:
        return None
    if name in _EXACT:
        return b"=" + value.strip(_OWS)
    if name == b"accept-encoding" or name in _BY_WEIGHT:
        weighed = _weighed(value)
        if weighed is not None:
            return b"q" + b",".join(_arranged(name, weighed))
    members = _members(value)
    return b"=" + value if members is None else b"," + b",".join(members)


def _arranged(name: bytes, weighed: list[tuple[int, bytes]]) -> list[bytes]:
    """Codings are a set. Elsewhere many servers take the first of several with one weight, so these stay in order."""
    if name == b"accept-encoding":
        weighed = sorted({(weight, _SAME_CODING.get(coding, coding)) for weight, coding in weighed})
    else:
        weighed = sorted(weighed, key=_heaviest_first)
    return [b"%b;q=%d" % (member, weight) for weight, member in weighed]


def _heaviest_first(weighed: tuple[int, bytes]) -> int:
    return -weighed[0]


def _weighed(value: bytes) -> list[tuple[int, bytes]] | None:
    """Members with their weights in thousandths (RFC 9110 section 12.4.2); None for what is not in this form."""
    weighed = []
    for member in value.split(b","):
        head, *params = [piece.strip(_OWS) for piece in member.split(b";")]
        weight: int | None = 1000
        if params and params[-1][:2].lower() == b"q=":
            weight = _thousandths(params.pop()[2:])
        if weight is None or b'"' in member or any(param[:2].lower() == b"q=" for param in params):
            return None
        if head:
            weighed.append((weight, b";".join([head.lower(), *map(_parameter, params)])))
    return weighed


def _thousandths(weight: bytes) -> int | None:
    if _WEIGHT.fullmatch(weight) is None:
        return None
    return 1000 if weight[:1] == b"1" else int((weight[2:] + b"000")[:3])


def _parameter(param: bytes) -> bytes:
    name, mark, argument = param.partition(b"=")
    return name.lower() + mark + argument


def _members(value: bytes) -> list[bytes] | None:
    """The members of a list without the space around them; None when a quoted string does not end."""
    if b'"' not in value:
        return [member.strip(_OWS) for member in value.split(b",")]
    members = [b""]
    for piece in _PIECE.findall(value):
        if piece == b'"':
            return None
        if piece == b",":
            members.append(b"")
        else:
            members[-1] += piece
    return [member.strip(_OWS) for member in members]
