"""Writes that may wait for the end of the event loop's turn: a busy proxy then wakes its peers once, not each time."""

import asyncio
from collections.abc import Callable


class Outbox:
    """Gathers small writes of one turn and makes them together. See docs/adr/0007-writes-in-batches.md.

    With a single exchange under way, the first write of a turn is made at once: it is likely to be the only one.
    Whoever closes a transport, or writes to it in another way, calls `flush` first.
    """

    __slots__ = ("_gathering", "_loop", "_pending", "exchanges")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._gathering = False
        self._pending: list[tuple[Callable[[bytes], None], bytes]] = []
        self.exchanges = 0
        """Exchanges under way, counted by the edge."""

    def post(self, write: Callable[[bytes], None], data: bytes) -> None:
        """Call `write` with `data`, at the latest when the callbacks that are ready now have run."""
        if not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._end_turn)
            if self.exchanges <= 1:
                write(data)
                return
        self._pending.append((write, data))

    def flush(self) -> None:
        """Make every write that waits. A transport that has closed in the meantime takes none."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        for write, data in pending:
            try:  # not suppress(), which costs as much as the rest of the loop
                write(data)
            except RuntimeError:  # uvloop, when the handle is closed; the protocol is told as well
                continue

    def _end_turn(self) -> None:
        self._gathering = False
        self.flush()
