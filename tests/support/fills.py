"""A keeper that keeps what its upstream marks as storable, and a body that arrives as the test says."""

import asyncio
from typing import Any, Literal

from proxy.exchange import Response
from proxy.policies.caching.fill import Fill
from proxy.policies.caching.keeper import Judged, Outcome
from proxy.protocol.caching.stored import StoredResponse, Terms

STORABLE = (b"Cache-Control", b"max-age=60")
TERMS = Terms(refusal="", lifetime=60.0)


class ShelfKeeper:
    """Stores what has STORABLE among its fields; a 304 confirms `known`."""

    def __init__(self, known: StoredResponse | None = None) -> None:
        self.known = known
        self.kept: list[StoredResponse] = []
        self.outcomes: list[Outcome] = []
        self.seconds: list[float] = []
        self.received_at: list[float] = []
        self.bug: Literal["", "judge", "keep"] = ""
        self.shelf_is_free = asyncio.Event()
        """Keeping waits for it."""
        self.shelf_is_free.set()

    def judge(self, fill: Fill[Any], response: Response, received_at: float) -> Judged:
        if self.bug == "judge":
            raise KeyError("a bug")
        self.received_at.append(received_at)
        if response.status == 304 and self.known is not None:
            return Judged(self.known, "", is_whole=True)
        if STORABLE not in response.headers:
            return Judged(None, "no_freshness", is_whole=False)
        fields = tuple(response.headers)
        return Judged(StoredResponse(response.status, response.reason, fields, b"", TERMS), "", is_whole=False)

    async def keep(self, fill: Fill[Any], stored: StoredResponse) -> None:
        if self.bug == "keep":
            raise KeyError("a bug")
        await self.shelf_is_free.wait()
        self.kept.append(stored)

    def ended(self, fill: Fill[Any], outcome: Outcome, seconds: float) -> None:
        self.outcomes.append(outcome)
        self.seconds.append(seconds)


class ArrivingBody:
    """An upstream's body: pieces, then its end or an error, each when the test says so."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.taken = 0
        """Pieces read so far."""
        for piece in pieces:
            self.arrives(piece)

    def arrives(self, piece: bytes) -> None:
        self._pieces.put_nowait(piece)

    def ends(self, error: Exception | None = None) -> None:
        self._pieces.put_nowait(b"" if error is None else error)

    async def read(self) -> bytes:
        piece = await self._pieces.get()
        if isinstance(piece, Exception):
            raise piece
        self.taken += bool(piece)
        return piece
