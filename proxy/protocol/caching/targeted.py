"""Which field says how this cache treats a response: CDN-Cache-Control, Surrogate-Control or Cache-Control.

The first of the three that says something counts, and then the others, and Expires, are not looked at (RFC 9213
section 2.2; for Surrogate-Control, of the Edge Architecture, the same is done).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from proxy.protocol.caching.cache_control import INVALID, Member, argument_of, members_of
from proxy.protocol.caching.directives import KNOWN, QUALIFIED, SECONDS, ResponseDirectives
from proxy.protocol.headers import RawHeaders
from proxy.protocol.problem import PROXY_NAME
from proxy.protocol.structured import Token
from proxy.protocol.structured_dictionary import Value, parse_dictionary

SURROGATE_CONTROL: Final = b"surrogate-control"
"""Meant for us, and not for the clients: it is not passed on with what is stored."""

Lines = Mapping[bytes, Sequence[bytes]]
"""Field values by name in lower case, in wire order."""

_DEVICE: Final = PROXY_NAME.encode()
_WINDOWS: Final = (b"stale-while-revalidate", b"stale-if-error")
_SPACE: Final = b" \t"


def lines_of(fields: RawHeaders) -> dict[bytes, list[bytes]]:
    """The values of each field, by its name in lower case."""
    lines: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        lines.setdefault(name.lower(), []).append(value.strip(_SPACE))
    return lines


def directives_of(lines: Lines) -> ResponseDirectives:
    """What holds for this cache of all that a response says about caching."""
    members = _cdn_members(lines.get(b"cdn-cache-control", ()))
    if members is None:
        members = _surrogate_members(lines.get(SURROGATE_CONTROL, ()))
    if members is None:
        return ResponseDirectives(members_of(lines.get(b"cache-control", ())))
    return ResponseDirectives(members, is_targeted=True)


def _cdn_members(lines: Sequence[bytes]) -> list[Member] | None:
    """None for a field that is empty or does not parse: it is ignored (RFC 9213 section 2.1)."""
    members = parse_dictionary(lines)
    if not members:
        return None
    return [(key.encode(), _argument(key.encode(), value)) for key, value in members.items() if value is not False]


def _argument(name: bytes, value: Value) -> bytes | None:
    """What Cache-Control would have; `INVALID` for a type that the directive does not take (section 2.1)."""
    if value is True:
        return None
    if name in SECONDS and isinstance(value, int):
        return b"%d" % value
    if name in QUALIFIED and isinstance(value, str) and not isinstance(value, Token):
        return value.encode()
    return INVALID


def _surrogate_members(lines: Sequence[bytes]) -> list[Member] | None:
    """Directives for any surrogate, and in their place those for us (`;tidegate`); None if none concerns a cache."""
    for_all: dict[bytes, list[Member]] = {}
    for_us: dict[bytes, list[Member]] = {}
    for part in b",".join(lines).split(b","):
        directive, _, device = part.partition(b";")
        device = device.strip(_SPACE).lower()
        name, mark, argument = directive.strip(_SPACE).partition(b"=")
        name = name.lower()
        if name in KNOWN and device in (b"", _DEVICE):
            group = for_us if device else for_all
            group.setdefault(name, []).append((name, argument_of(argument) if mark else None))
    chosen = for_all | for_us
    return [member for members in chosen.values() for member in _split_extension(members, chosen)] or None


def _split_extension(members: list[Member], chosen: Mapping[bytes, object]) -> list[Member]:
    """`max-age=60+30` allows 30 seconds more, stale, unless there are directives that say so themselves."""
    split: list[Member] = []
    for name, argument in members:
        seconds, mark, extension = (argument or b"").partition(b"+")
        if name == b"max-age" and mark:
            split += [(window, extension) for window in _WINDOWS if window not in chosen]
            argument = seconds
        split.append((name, argument))
    return split
