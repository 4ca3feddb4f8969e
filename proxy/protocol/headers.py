"""Which header fields pass through the proxy, and what it adds about itself (RFC 9110 section 7.6)."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from proxy.protocol.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    FORWARDED,
    HOP_BY_HOP,
    HOST,
    INTERNAL,
    KINDS,
    TRACE,
    TRANSFER_ENCODING,
    UPGRADE,
    VIA,
)
from proxy.protocol.traceparent import without_invalid_trace

RawHeaders = Sequence[tuple[bytes, bytes]]

_NOT_FORWARDED: Final = (
    HOST | CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | UPGRADE | HOP_BY_HOP | EXPECT | FORWARDED | INTERNAL
)
_INERT_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings", b"content-length"})
"""Connection options that name no field, one that is dropped anyway, or the framing, which is ours to decide."""


def end_to_end(raw_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The request fields that go on to the upstream, in their spelling and order.

    Left out: hop-by-hop fields and all that Connection names, Expect, malformed trace context, and everything that the
    proxy writes itself: Host, framing, forwarding, request id, deadline and attempt number. The caller adds those
    afterwards, so no Connection option of the client can take them away.
    """
    kept = []
    seen = 0
    options: frozenset[bytes] = frozenset()
    for field in raw_headers:
        kind = KINDS[field[0]]
        if kind:
            seen |= kind
            if kind & _NOT_FORWARDED:
                if kind == CONNECTION:
                    options = connection_options(field[1], options)
                continue
        kept.append(field)
    if seen & TRACE:
        kept = without_invalid_trace(kept)
    return without_named(kept, options) if options else kept


@lru_cache(maxsize=256)
def connection_options(value: bytes, others: frozenset[bytes] = frozenset()) -> frozenset[bytes]:
    """The options of one Connection field, in lower case, together with those of `others`."""
    return others.union(option.strip(b" \t") for option in value.lower().split(b","))


def without_named(fields: list[tuple[bytes, bytes]], options: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """`fields` less those that Connection names (RFC 9110 section 7.6.1), save Content-Length."""
    if options <= _INERT_OPTIONS:
        return fields
    named = options - _INERT_OPTIONS
    return [field for field in fields if field[0].lower() not in named]


_VIA_PREFIX: Final = {(1, 0): b"1.0 ", (1, 1): b"1.1 "}


def via_received(version: tuple[int, int], pseudonym: bytes) -> bytes:
    """The Via value for a message received with `version`, which is HTTP/1.0 or HTTP/1.1."""
    return _VIA_PREFIX[version] + pseudonym


def seen_loop(raw_headers: RawHeaders, pseudonym: bytes) -> bool:
    """Whether the message has passed through the proxy of this name before.

    The name must be this instance's own, or two sidecars in a row would look like a loop.
    """
    return any(
        pseudonym in (word for member in value.split(b",") for word in member.split()[1:2])
        for name, value in raw_headers
        if KINDS[name] & VIA
    )


class HeaderEditor:
    """A compiled header edit: `set` replaces every field of that name, `remove` deletes.

    A field whose name differs only by `_` for `-` goes too: many servers read both as one.
    """

    __slots__ = ("_dropped", "_set")

    def __init__(self, to_set: Mapping[str, str], remove: Sequence[str]) -> None:
        self._set = [(name.encode(), value.encode()) for name, value in to_set.items()]
        self._dropped = frozenset(_folded(name.encode()) for name in (*to_set, *remove))

    def apply(self, fields: RawHeaders) -> list[tuple[bytes, bytes]]:
        """A new list with the edit applied; fields that are set come last."""
        dropped = self._dropped
        kept = [field for field in fields if _folded(field[0]) not in dropped]
        kept += self._set
        return kept


def header_editor(to_set: Mapping[str, str], remove: Sequence[str]) -> HeaderEditor | None:
    """The editor for a header edit of the configuration, None when there is nothing to edit."""
    return HeaderEditor(to_set, remove) if to_set or remove else None


def _folded(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


def is_event_stream(fields: RawHeaders) -> bool:
    """Whether a response's body goes on for as long as both sides like: server-sent events."""
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream") for name, value in fields
    )
