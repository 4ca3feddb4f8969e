"""The grammar of Cache-Control: a list of directives, each with an argument or without (RFC 9111 section 5.2)."""

import re
from collections.abc import Iterable
from typing import Final

from proxy.protocol.fields import TOKEN_BYTES

Member = tuple[bytes, bytes | None]
"""Name in lower case, and argument: without its quotes, `INVALID` for what is none by the grammar, None without `=`."""

INVALID: Final = b"\0"
"""In no field value."""
MAX_SECONDS: Final = 2**31
"""What any greater number of seconds means (section 1.2.2)."""
_MAX_DIGITS: Final = len(str(MAX_SECONDS))

_QUOTED: Final = rb'"(?:[^"\\]++|\\.)*+"'
_IS_QUOTED: Final = re.compile(_QUOTED, re.DOTALL)
_HAS_ALL_QUOTES: Final = re.compile(rb'(?:[^"]++|%b)*+' % _QUOTED, re.DOTALL)
_MEMBER: Final = re.compile(rb'(?:[^,"]++|%b)++' % _QUOTED, re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_SPACE: Final = b" \t"


def members_of(lines: Iterable[bytes]) -> list[Member]:
    """The directives of all lines in order; empty members, and those whose name is no token, are left out."""
    found = []
    for line in lines:
        for part in _split(line):
            name, mark, argument = part.strip(_SPACE).partition(b"=")
            bare = name.rstrip(_SPACE)
            if bare and not bare.translate(None, TOKEN_BYTES):
                valid = bare == name
                found.append((bare.lower(), (argument_of(argument) if valid else INVALID) if mark else None))
    return found


def argument_of(text: bytes) -> bytes:
    """A token as it is, a quoted string without quotes and escapes, `INVALID` for anything else."""
    if text and not text.translate(None, TOKEN_BYTES):
        return text
    if _IS_QUOTED.fullmatch(text):
        return _ESCAPED.sub(rb"\1", text[1:-1])
    return INVALID


def delta_seconds(argument: bytes | None) -> int | None:
    """A whole number of seconds, at most 2^31 (section 1.2.2); None for anything else."""
    if argument is None or not argument.isdigit():
        return None
    digits = argument.lstrip(b"0")
    return MAX_SECONDS if len(digits) > _MAX_DIGITS else min(int(digits or b"0"), MAX_SECONDS)


def field_names(argument: bytes | None) -> frozenset[bytes]:
    """The names, in lower case, that `private` or `no-cache` is limited to; none if any of them cannot be a name."""
    names = frozenset(filter(None, (name.strip(_SPACE) for name in (argument or b"").lower().split(b","))))
    return frozenset() if any(name.translate(None, TOKEN_BYTES) for name in names) else names


def _split(line: bytes) -> list[bytes]:
    """Members as written. Where a quoted string does not end, a comma in it hides nothing: it separates."""
    if b'"' in line and _HAS_ALL_QUOTES.fullmatch(line):
        return _MEMBER.findall(line)
    return line.split(b",")
