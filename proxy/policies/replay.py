"""A request body that can be sent again while it is short."""

from typing import Final

from proxy.exchange import RequestBody

REPLAY_LIMIT: Final = 64 * 1024
"""Bytes kept of a body; one that is longer is streamed and cannot be sent again."""


class ReplayBody:
    """Passes a body on as it comes and keeps it, until there is too much of it. The original stays the client's."""

    __slots__ = ("_again", "_body", "_kept", "_size", "content_length")

    def __init__(self, body: RequestBody) -> None:
        self._body = body
        self._kept: list[bytes] | None = []
        self._size = 0
        self._again = b""
        """What `read` has to give once more."""
        self.content_length = body.content_length

    @property
    def received(self) -> int:
        """Bytes read from the client, however often they were sent."""
        return self._body.received

    @property
    def is_complete(self) -> bool:
        """Whether the last byte has been read from here."""
        return not self._again and self._body.is_complete

    @property
    def is_replayable(self) -> bool:
        """Whether all that was read so far is still there."""
        return self._kept is not None

    async def read(self) -> bytes:
        """The next piece, b"" at the end; after a `rewind` all from the beginning. Raises what the original raises."""
        if self._again:
            again, self._again = self._again, b""
            return again
        data = await self._body.read()
        if self._kept is not None:
            self._keep(self._kept, data)
        return data

    def rewind(self) -> None:
        """Begin again with the first byte. Raises LookupError when that is gone."""
        if self._kept is None:
            raise LookupError("the body is not replayable any more")
        self._again = b"".join(self._kept)
        self._kept = [self._again]

    def forget(self) -> None:
        """It will not be sent again: keep nothing of it."""
        self._kept = None

    def _keep(self, kept: list[bytes], data: bytes) -> None:
        self._size += len(data)
        if self._size > REPLAY_LIMIT:
            self._kept = None
        else:
            kept.append(data)

    def __repr__(self) -> str:
        return f"<ReplayBody kept={None if self._kept is None else self._size} {self._body!r}>"
