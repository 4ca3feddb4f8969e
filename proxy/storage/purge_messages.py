"""What instances tell each other about purges: one message for each call of Redis that changes generations."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from proxy.protocol.caching.stored import Validity
from proxy.protocol.caching.tags import ALL

_FORMAT: Final = b"1"

Change = tuple[str, Validity]


class PurgeMessage(NamedTuple):
    """Who purged what."""

    sender: bytes
    changes: tuple[Change, ...]


_EVERYTHING: Final = PurgeMessage(b"", ((ALL, Validity.GONE),))


def write_message(sender: bytes, changes: Sequence[Change]) -> bytes:
    """A line for the sender, a word without spaces, and a line for each change."""
    lines = [b"%b %b" % (_FORMAT, sender)]
    lines += [b"%d %b" % (validity, tag.encode("utf-8", "surrogateescape")) for tag, validity in changes]
    return b"\n".join(lines)


def read_message(data: bytes) -> PurgeMessage:
    """A message; what is none, or one of another release, may be about anything: it is a purge of everything."""
    head, *lines = data.split(b"\n")
    form, _, sender = head.partition(b" ")
    if form != _FORMAT or not lines:
        return _EVERYTHING
    try:
        return PurgeMessage(sender, tuple(map(_change, lines)))
    except ValueError:
        return _EVERYTHING


def _change(line: bytes) -> Change:
    level, _, tag = line.partition(b" ")
    if not tag or level == b"0":
        raise ValueError("no change")
    return tag.decode("utf-8", "surrogateescape"), Validity(int(level))
