"""Has the client's body come before anything is held for it: a slow client must not hold what others wait for."""

from collections.abc import Coroutine
from typing import Any

from proxy.exchange import Exchange, Handler, RequestBody, Response

LIMIT = 64 * 1024
"""Bytes: a body that declares at most so many is read whole. Of any other the first piece has to be there."""


class BodyFirst:
    """Reads the beginning of the request body before the exchange asks for a permit or becomes a probe."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Handler) -> None:
        self._inner = inner

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, Response]:
        """Pass the exchange on as soon as its body has begun. Raises what reading a body raises."""
        body = exchange.request.body
        return self._inner.handle(exchange) if body is None else self._after(body, exchange)

    async def _after(self, body: RequestBody, exchange: Exchange) -> Response:
        exchange.request.body = await _begun(body)
        return await self._inner.handle(exchange)


async def _begun(body: RequestBody) -> RequestBody:
    first = await body.read()
    length = body.content_length
    if length is None or length > LIMIT or body.is_complete:
        return BegunBody(body, first)
    pieces = [first]
    while not body.is_complete and (piece := await body.read()):
        pieces.append(piece)
    return BegunBody(body, b"".join(pieces))


class BegunBody:
    """A body of which the beginning has been read already."""

    __slots__ = ("_body", "_first", "content_length")

    def __init__(self, body: RequestBody, first: bytes) -> None:
        self._body = body
        self._first = first
        self.content_length = body.content_length

    @property
    def received(self) -> int:
        """Bytes read from the client."""
        return self._body.received

    @property
    def is_complete(self) -> bool:
        """Whether the last byte has been read from here."""
        return not self._first and self._body.is_complete

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises what the original raises."""
        if self._first:
            first, self._first = self._first, b""
            return first
        return await self._body.read()

    def __repr__(self) -> str:
        return f"<BegunBody {len(self._first)} bytes, then {self._body!r}>"
