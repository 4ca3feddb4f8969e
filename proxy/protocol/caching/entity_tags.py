"""Entity tags, as received with `W/` and quotes, and how they are compared (RFC 9110 section 8.8.3)."""

import re
from typing import Final

_MEMBER: Final = re.compile(rb'[ \t,]*((?:W/)?"[^"]*"|[^ \t,]+)')
"""A tag that lacks its quotes is none by the grammar; it is read all the same, and is equal to its like alone."""
_SHORTEST: Final = len('""')


def is_strong(tag: bytes) -> bool:
    """Whether `tag` is well-formed and not weak."""
    return len(tag) >= _SHORTEST and tag[0] == tag[-1] == ord('"')


def same_strongly(one: bytes, other: bytes) -> bool:
    """Strong comparison (section 8.8.3.2): both are strong, and equal."""
    return one == other and is_strong(one)


def same_weakly(one: bytes, other: bytes) -> bool:
    """Weak comparison: equal but for `W/`. No tag is like the empty one."""
    return bool(one) and one.removeprefix(b"W/") == other.removeprefix(b"W/")


def members_of(value: bytes) -> list[bytes]:
    """The tags of a list as If-None-Match has it, `*` like any other word."""
    return _MEMBER.findall(value)
