"""Bytes in, one response after the other out: httptools with the rules that it does not know. No I/O."""

from collections.abc import Callable
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.errors import (
    ConnectionTerminated,
    ProxyError,
    ResponseHeadTooLarge,
    ResponseIncomplete,
    UpstreamProtocolError,
)
from proxy.protocol.framing import Framing
from proxy.protocol.response_checks import MAX_RESPONSE_HEAD, ResponseHead, check_response

MAX_INTERIM: Final = 32
"""1xx responses before one final response."""
_CONTINUE: Final = 100
_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL_STATUS: Final = 200


class _BytesAfterTheEnd(Exception):
    """Stops the parser: what follows belongs to no request of ours."""


class ResponseReader:
    """Reads the responses of one connection. `start` before each request, `feed` what arrives, then look.

    `head` is None until the final head is complete; `complete` is set with the last byte of the body; `pieces` are the
    body bytes not yet taken; `overrun` says that bytes followed the end; `surplus` is what followed a 101. Each other
    1xx response goes to `interim` with its status and end-to-end fields, save 100: that is between two neighbours.
    Trailers are dropped.
    """

    __slots__ = (
        "_barren",
        "_fields",
        "_interim",
        "_interims",
        "_method",
        "_parser",
        "_pass_on",
        "_spent",
        "_upgrade",
        "complete",
        "head",
        "overrun",
        "pieces",
        "reason",
        "reusable",
        "status",
        "surplus",
    )

    def __init__(self, interim: Callable[[int, list[tuple[bytes, bytes]]], None] | None = None) -> None:
        self._pass_on = interim
        self._parser = HttpResponseParser(self)
        self._spent = False
        self.start("GET")

    def start(self, method: str, *, upgrade: bool = False) -> None:
        """The next response answers a request of this method; `upgrade`: it may switch protocols."""
        if self._spent:
            self._parser = HttpResponseParser(self)
            self._spent = False
        self._method = method
        self._upgrade = upgrade
        self._fields: list[tuple[bytes, bytes]] = []
        self._interim = False
        self._interims = 0
        self._barren = 0
        self.head: ResponseHead | None = None
        self.status = 0
        self.reason = b""
        self.pieces: list[bytes] = []
        self.complete = False
        self.overrun = False
        self.reusable = False
        self.surplus = b""

    @property
    def is_untouched(self) -> bool:
        """Whether no byte of the response has arrived."""
        return self.head is None and not self._barren

    def take(self) -> list[bytes]:
        """The body bytes that have arrived since the last call."""
        pieces, self.pieces = self.pieces, []
        return pieces

    def feed(self, data: bytes) -> None:
        """Parse. Raises UpstreamProtocolError and ResponseHeadTooLarge: the connection is then of no use."""
        self._barren += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as switch:
            self.surplus = data[switch.args[0] :]
            self.complete = True
        except HttpParserError as error:
            self._refuse(error)
        if self._barren > MAX_RESPONSE_HEAD and not self.complete:
            self._refuse_barren()

    def end(self, *, reset: bool) -> None:
        """The connection has ended: for some responses that is their end.

        Raises ConnectionTerminated before the head is complete, and ResponseIncomplete when body is missing.
        """
        how = "reset" if reset else "end of stream"
        if self.head is None:
            raise ConnectionTerminated(cause=f"{how} before the response head")
        if reset or self.head.framing is not Framing.CLOSE:
            raise ResponseIncomplete(cause=f"{how} within the body")
        self.complete = True

    # --- httptools' callbacks ---

    def on_message_begin(self) -> None:
        """httptools: a message begins."""
        if self.complete:
            raise _BytesAfterTheEnd

    def on_status(self, reason: bytes) -> None:
        """httptools: the reason phrase, or a part of it."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a field of the head; of the trailer too, where nobody looks any more."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """httptools: the head of an interim or final response is complete."""
        status = self._parser.get_status_code()
        head = check_response(
            status, self._parser.get_http_version(), self._fields, self._method, upgrade=self._upgrade
        )
        if status < _FIRST_FINAL_STATUS and status != _SWITCHING_PROTOCOLS:
            self._count_interim()
            if self._pass_on is not None and status != _CONTINUE:
                self._pass_on(status, head.fields)
            return
        self.head = head
        self.status = status
        self.reusable = head.keep_alive
        if head.framing is Framing.NONE:
            self.complete = True
            self._spent = True  # the parser may still expect a body: it cannot know of HEAD

    def on_body(self, data: bytes) -> None:
        """httptools: a piece of the body."""
        if self.complete:
            raise _BytesAfterTheEnd
        self._barren = 0
        self.pieces.append(data)

    def on_message_complete(self) -> None:
        """httptools: an interim or final response is complete."""
        if self._interim:
            self._interim = False
            self._fields = []
            self.reason = b""
            self.take()
        elif self.status != _SWITCHING_PROTOCOLS:  # there, the parser still has to agree that it is a switch
            self.complete = True

    def _count_interim(self) -> None:
        self._interim = True
        self._interims += 1
        if self._interims > MAX_INTERIM:
            raise UpstreamProtocolError(cause="too many interim responses")

    def _refuse(self, error: HttpParserError) -> None:
        if self.complete:
            self.reusable = False
            # Some servers send a body with a HEAD or a 304; that is no second response.
            self.overrun = self.head is not None and self.head.framing is not Framing.NONE
            return
        reason = error.__context__
        raise reason if isinstance(reason, ProxyError) else UpstreamProtocolError(cause=str(error)) from None

    def _refuse_barren(self) -> None:
        """Too many bytes without one of the body among them: a head, chunk extension or trailer without end."""
        if self.head is None:
            raise ResponseHeadTooLarge(cause="head")
        raise UpstreamProtocolError(cause="chunk extension or trailer too large")
