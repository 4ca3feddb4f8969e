"""The client's body: admitted, bounded and timed, with backpressure from whoever reads it."""

import asyncio
from collections.abc import Callable

from aiohttp import StreamReader, http_exceptions, web_protocol

from proxy.alarm import Alarm
from proxy.errors import BadRequest, ClientDisconnected, ContentTooLarge, ProxyError, RequestTimeout

MINIMUM_RATE = 500
"""Bytes a second that a client has to move for as long as it wants; the anchors are Apache's 500 and Kestrel's 240."""
FRAMING = 64 * 1024
FRAMING_RATIO = 16
"""A chunked body may come to so many bytes, and so many times its content. Chunk extensions count nowhere else."""
BROKEN = "The request body's framing is broken."
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientBody:
    """A request body read from aiohttp's payload stream."""

    __slots__ = (
        "_admission",
        "_alarm",
        "_clock",
        "_deadline",
        "_limit",
        "_payload",
        "_raw",
        "_timeout",
        "content_length",
        "received",
    )

    def __init__(
        self,
        payload: StreamReader,
        alarm: Alarm,
        clock: Callable[[], float],
        *,
        content_length: int | None,
        limit: int | None,
        timeout: float,
        transport: asyncio.Transport | None,
    ) -> None:
        self._payload = payload
        self._alarm = alarm
        self._clock = clock
        self._limit = limit
        self._timeout = timeout
        self._admission = transport
        self._deadline = 0.0
        self._raw = 0
        self.content_length = content_length
        self.received = 0

    @property
    def is_complete(self) -> bool:
        """Whether the last byte has been read."""
        return self._payload.at_eof()

    @property
    def awaits_continue(self) -> bool:
        """Whether the client still waits for our 100 and nothing of the body has come."""
        return self._admission is not None and not self._payload.total_bytes

    @property
    def is_broken(self) -> bool:
        """Whether reading on would only raise."""
        return self._payload.exception() is not None

    async def read(self) -> bytes:
        """The next piece, b"" at the end.

        Raises RequestTimeout below the minimum rate, ContentTooLarge, BadRequest for broken framing, and
        ClientDisconnected.
        """
        if not self._deadline:
            self._admit()
        self._alarm.set(self._deadline + self.received / MINIMUM_RATE)
        try:
            data = await self._payload.readany()
        except ProxyError:
            raise
        except (web_protocol.RequestPayloadError, http_exceptions.HttpProcessingError):
            raise BadRequest(BROKEN) from None
        except (ConnectionError, web_protocol.PayloadAccessError):
            raise ClientDisconnected("The client left during its request body.") from None
        finally:
            self._alarm.clear()
        self.received += len(data)
        if self._limit is not None and self.received > self._limit:
            raise ContentTooLarge(f"The request body is larger than {self._limit} bytes.")
        return data

    def arrived(self, size: int) -> None:
        """`size` bytes more have come, framing included; a body that is next to nothing but framing breaks off."""
        self._raw += size
        if self.content_length is None and self._raw > FRAMING + FRAMING_RATIO * self._payload.total_bytes:
            self.break_off()

    def break_off(self) -> None:
        """The parser can make nothing of what comes: unless all has arrived, whoever reads gets BadRequest."""
        if not self._payload.is_eof():
            self._payload.set_exception(BadRequest(BROKEN))

    def fail_slow(self) -> None:
        """The alarm rang: whoever reads gets RequestTimeout."""
        self._payload.set_exception(RequestTimeout("The request body arrives too slowly."))

    def _admit(self) -> None:
        self._deadline = self._clock() + self._timeout
        transport, self._admission = self._admission, None
        if transport is not None and not self._payload.total_bytes:
            transport.write(CONTINUE)
