"""Request heads that have come before: clients repeat theirs byte for byte, and taking them apart costs the most."""

from typing import TYPE_CHECKING, Final

from aiohttp.http_parser import RawRequestMessage

from proxy.exchange import Handler, Request
from proxy.routing.router import Match

if TYPE_CHECKING:
    from proxy.runtime import Runtime

LONGEST: Final = 1024
"""Bytes of a head that is remembered."""
_REMEMBERED: Final = 512
"""Heads in each of two generations: together they take a few megabytes at most."""


class KnownHead:
    """One message without a body, and where it leads under `runtime`: it has been checked and routed then."""

    __slots__ = ("match", "message", "request", "runtime")

    def __init__(self, message: RawRequestMessage) -> None:
        self.message = message
        self.runtime: Runtime | None = None
        """The configuration that `request` and `match` are by; None: it has not been opened."""
        self.request: Request
        """Shared by all exchanges that repeat it: nobody changes a request without a body."""
        self.match: Match[Handler]


class KnownHeads:
    """Heads by their bytes. A head is the same message whoever sends it: the parser knows no more than the bytes."""

    __slots__ = ("_older", "_recent")

    def __init__(self) -> None:
        self._recent: dict[bytes, KnownHead] = {}
        self._older: dict[bytes, KnownHead] = {}

    def find(self, data: bytes) -> KnownHead | None:
        """The message that these bytes are, if they are one that is remembered."""
        head = self._recent.get(data)
        if head is None:
            head = self._older.get(data)
            if head is not None:
                self._remember(data, head)
        return head

    def add(self, data: bytes, message: RawRequestMessage) -> KnownHead | None:
        """Remember that `data` is exactly this message, no more and no less; None: it is too long for that."""
        if len(data) > LONGEST:
            return None
        head = KnownHead(message)
        self._remember(data, head)
        return head

    def clear(self) -> None:
        """Forget them all: they would keep a configuration alive that is not in force any more."""
        self._recent, self._older = {}, {}

    def _remember(self, data: bytes, head: KnownHead) -> None:
        if len(self._recent) >= _REMEMBERED:
            self._older, self._recent = self._recent, {}
        self._recent[data] = head
