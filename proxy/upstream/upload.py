"""A request body on its way to the upstream."""

from typing import Protocol, Self

from proxy.errors import BadRequest, InternalError, ProxyError
from proxy.exchange import RequestBody


class Drain(Protocol):
    """Where an upload is written to."""

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the upstream does not take them."""
        ...

    def upload_ended(self, error: ProxyError | None) -> None:
        """The last byte has been written, or the body failed."""
        ...


class Upload:
    """Frames a body: with its Content-Length where one was declared, else chunked.

    `first` is its beginning, which leaves with the request head. Small bodies end there: then `is_complete` is set at
    once, the whole body is in memory, and nothing is left to do.
    """

    __slots__ = ("_body", "_remaining", "first", "is_complete", "is_untouched")

    def __init__(self, body: RequestBody) -> None:
        self._body = body
        self._remaining = body.content_length
        self.first = b""
        self.is_complete = False
        self.is_untouched = True
        """Whether `first` is all that has been read, so that the request could still be sent again."""

    @classmethod
    async def begin(cls, body: RequestBody) -> Self:
        """Read the first piece: before a connection is taken, so that a slow client holds none. Raises ProxyError."""
        upload = cls(body)
        upload.first = upload._frame(await body.read())
        return upload

    async def run(self, drain: Drain) -> None:
        """Write all that follows `first`."""
        self.is_untouched = False
        error: ProxyError | None = None
        try:
            while not self.is_complete:
                await drain.write(self._frame(await self._body.read()))
        except ProxyError as failure:
            error = failure
        except Exception as bug:
            error = InternalError(cause=repr(bug))
        drain.upload_ended(error)

    def _frame(self, data: bytes) -> bytes:
        if self._remaining is None:
            return self._chunk(data)
        self._remaining -= len(data)
        if self._remaining < 0 or (self._remaining and not data):
            # One byte more or less would be read as part of the next request.
            raise BadRequest(cause="the body is not as long as its Content-Length says")
        self.is_complete = not self._remaining
        return data

    def _chunk(self, data: bytes) -> bytes:
        self.is_complete = not data or self._body.is_complete
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return chunk + b"0\r\n\r\n" if self.is_complete else chunk
