"""Where one message ends and the next begins, in the cases that aiohttp's C parser gets wrong.

- The last trailer field of a chunked message becomes the first header field of the next message.
- Behind a message that asks for an upgrade other than WebSocket, the rest of what was read is lost.

Neither shows in what the parser returns, so it is told from the bytes. Where they leave doubt, the message is the last
one of its connection (RFC 9112 section 9.6 lets a server end a connection after any response).
"""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import StreamReader
from aiohttp.http_parser import RawRequestMessage

Messages = Sequence[tuple[Any, StreamReader]]

_END_OF_HEAD: Final = b"\r\n\r\n"
_PLAIN_END: Final = b"\r\n0\r\n\r\n"
"""What ends a chunked body that has no trailer fields: no field line can read `0`."""


class Boundary:
    """Sees everything that one connection receives and what its parser made of it."""

    __slots__ = ("_recent", "_unfinished", "is_final")

    def __init__(self) -> None:
        self.is_final = False
        """Whether the message parsed last is the last one that may be answered."""
        self._unfinished: StreamReader | None = None
        """The body of a chunked message that has not ended."""
        self._recent = b""
        """Its last few bytes as they came."""

    def is_one_head(self, data: bytes) -> bool:
        """Whether `data` is one head and nothing else, and nothing of an earlier message can have got into it."""
        return not self._recent and _is_one_head(data)

    def sift(self, messages: Messages, data: bytes, *, upgraded: bool, is_idle: bool) -> Messages:
        """Those of `messages` that can be trusted. `data` brought them; `is_idle`: nothing came before it."""
        if self.is_final:
            return ()
        if self._unfinished is not None:
            self._recent = (self._recent + data[-len(_PLAIN_END) :])[-len(_PLAIN_END) :]
            if self._unfinished.is_eof():
                self._unfinished = None
                self.is_final = bool(messages) or self._recent != _PLAIN_END
                return ()
        for index, (message, payload) in enumerate(messages):
            if message.chunked or (message.upgrade and not upgraded):
                is_alone = len(messages) == 1 and is_idle
                self.is_final = index + 1 < len(messages) or not self._ends_well(message, payload, data, is_alone)
                return messages[: index + 1]
        return messages

    def _ends_well(self, message: RawRequestMessage, payload: StreamReader, data: bytes, is_alone: bool) -> bool:
        """Whether the parser can go on behind the last of the messages."""
        if message.upgrade:
            has_body = message.chunked or not payload.is_eof() or payload.total_bytes
            return is_alone and not has_body and _is_one_head(data)
        if payload.is_eof():
            return data.endswith(_PLAIN_END)
        self._unfinished, self._recent = payload, data[-len(_PLAIN_END) :]
        return True


def _is_one_head(data: bytes) -> bool:
    """Whether `data`, in which a head ends, holds nothing behind that end."""
    return data.endswith(_END_OF_HEAD) and data.count(_END_OF_HEAD) == 1 and data[:1] not in (b"\r", b"\n")
