"""Request heads that have been parsed before: clients repeat theirs byte for byte, and parsing them costs the most."""

from typing import Final

from aiohttp.http_parser import RawRequestMessage

LONGEST: Final = 1024
"""Bytes of a head that is remembered."""
_REMEMBERED: Final = 512
"""Heads in each of two generations: together they take a few megabytes at most."""


class KnownHeads:
    """Messages without a body by their bytes. A head is the same message whoever sends it: the parser knows no more."""

    __slots__ = ("_older", "_recent")

    def __init__(self) -> None:
        self._recent: dict[bytes, RawRequestMessage] = {}
        self._older: dict[bytes, RawRequestMessage] = {}

    def find(self, data: bytes) -> RawRequestMessage | None:
        """The message that these bytes are, if they are one that is remembered."""
        message = self._recent.get(data)
        if message is None:
            message = self._older.get(data)
            if message is not None:
                self._remember(data, message)
        return message

    def add(self, data: bytes, message: RawRequestMessage) -> None:
        """Remember that `data` is exactly this message, no more and no less."""
        if len(data) <= LONGEST:
            self._remember(data, message)

    def _remember(self, data: bytes, message: RawRequestMessage) -> None:
        if len(self._recent) >= _REMEMBERED:
            self._older, self._recent = self._recent, {}
        self._recent[data] = message
