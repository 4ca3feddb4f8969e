"""W3C Trace Context, as far as a proxy that starts no spans needs it: pass on what is valid, drop what is not."""

import re
from typing import Final

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.DOTALL)
_MEMBER: Final = re.compile(
    rb"[ \t]*"
    rb"(?:(?:[a-z0-9][a-z0-9_\-*/]{0,240}@)?[a-z0-9][a-z0-9_\-*/]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,256})?"
    rb"[ \t]*"
)
_MAX_MEMBERS: Final = 32


def is_traceparent(value: bytes) -> bool:
    """Whether `value` is a traceparent that may be passed on (Trace Context section 3.2)."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None:
        return False
    version, trace_id, parent_id, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return False
    return trace_id.strip(b"0") != b"" and parent_id.strip(b"0") != b""


def is_tracestate(value: bytes) -> bool:
    """Whether `value`, all its field lines joined by commas, is a tracestate (Trace Context section 3.3)."""
    members = value.split(b",", _MAX_MEMBERS)
    return len(members) <= _MAX_MEMBERS and all(map(_MEMBER.fullmatch, members))


def without_invalid_trace(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """`fields` less an invalid tracestate, or less both fields when there is not exactly one valid traceparent."""
    parents = [value for name, value in fields if name.lower() == b"traceparent"]
    if len(parents) != 1 or not is_traceparent(parents[0]):
        return _without(fields, b"traceparent", b"tracestate")
    states = [value for name, value in fields if name.lower() == b"tracestate"]
    if states and not is_tracestate(b",".join(states)):
        return _without(fields, b"tracestate")
    return fields


def _without(fields: list[tuple[bytes, bytes]], *names: bytes) -> list[tuple[bytes, bytes]]:
    return [field for field in fields if field[0].lower() not in names]
