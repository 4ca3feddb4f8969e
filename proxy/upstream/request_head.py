"""The head of a request to the upstream, from parts that are compiled once per route."""

from typing import Final

from proxy.config.model import RouteConfig
from proxy.exchange import Exchange, Request
from proxy.protocol.deadline import format_deadline_ms
from proxy.protocol.fields import (
    ATTEMPT_FIELD,
    CONNECTION,
    CONTENT_LENGTH,
    CRITICALITY_FIELD,
    DEADLINE_FIELD,
    HOP_BY_HOP,
    HOST,
    KINDS,
    REQUEST_ID_FIELD,
    TRANSFER_ENCODING,
    UPGRADE,
)
from proxy.protocol.headers import HeaderEditor, end_to_end, header_editor
from proxy.routing import Rewrite

_CONNECTION_LEVEL: Final = HOST | CONTENT_LENGTH | TRANSFER_ENCODING | CONNECTION | UPGRADE | HOP_BY_HOP
"""What no header edit may set: it decides where the request goes and where it ends."""


class RequestHeads:
    """Writes request heads for one route. `host` as in `upstreams.NAME.host`."""

    __slots__ = ("_editor", "_host", "_rewrite", "route")

    def __init__(self, route: RouteConfig, host: str) -> None:
        self.route = route
        edit = route.headers.request
        to_set = {name: v for name, v in edit.set.items() if not KINDS[name.encode("ascii")] & _CONNECTION_LEVEL}
        self._editor = header_editor(to_set, edit.remove)
        self._rewrite = None if route.rewrite is None else Rewrite(route.rewrite)
        self._host = host

    def build(self, exchange: Exchange, authority: bytes, now: float) -> bytes:
        """The head with its empty line; `authority` is the endpoint's. Raises AmbiguousPath when a rewrite fails."""
        request = exchange.request
        target = request.target if self._rewrite is None else self._rewrite.apply(exchange.params, request.query)
        lines = b"%bX-Request-ID: %b\r\nX-Request-Attempt: %d\r\n" % (
            request.fields.lines(exchange.forwarded),
            exchange.request_id.encode("ascii"),
            max(exchange.attempt, exchange.received_attempt),  # who retries before us is known behind us, too
        )
        if exchange.attempt_deadline is not None:
            lines += b"X-Request-Deadline-Ms: %b\r\n" % format_deadline_ms(exchange.attempt_deadline - now)
        if exchange.criticality != "default":
            lines += b"X-Request-Criticality: %b\r\n" % exchange.criticality.encode("ascii")
        if self._editor is not None:
            lines = _edited(self._editor, exchange, now)
        if request.body is not None or request.upgrade:
            lines += _framing(request)
        return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (
            request.method.encode("ascii"),
            target.encode("utf-8", "surrogateescape"),
            self._host_for(request, authority),
            lines,
        )

    def _host_for(self, request: Request, authority: bytes) -> bytes:
        if self._host == "preserve":
            # HTTP/1.0 clients may send none.
            return request.authority.encode("ascii") or authority
        return authority if self._host == "upstream" else self._host.encode("ascii")


def _edited(editor: HeaderEditor, exchange: Exchange, now: float) -> bytes:
    """The lines field by field, since the edit may concern any of them, ours included."""
    fields = end_to_end(exchange.request.fields.raw)
    fields += exchange.forwarded
    fields.append((REQUEST_ID_FIELD, exchange.request_id.encode("ascii")))
    fields.append((ATTEMPT_FIELD, b"%d" % max(exchange.attempt, exchange.received_attempt)))
    if exchange.attempt_deadline is not None:
        fields.append((DEADLINE_FIELD, format_deadline_ms(exchange.attempt_deadline - now)))
    if exchange.criticality != "default":
        fields.append((CRITICALITY_FIELD, exchange.criticality.encode("ascii")))
    return b"".join([b"%b: %b\r\n" % field for field in editor.apply(fields)])


def _framing(request: Request) -> bytes:
    framing = b""
    if request.body is not None:
        length = request.body.content_length
        framing = b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
    if request.upgrade:
        protocols = [value for name, value in request.fields.raw if KINDS[name] & UPGRADE]
        framing += b"Connection: upgrade\r\nUpgrade: %b\r\n" % b", ".join(protocols)
    return framing
