"""The head of a request to the upstream, from parts that are compiled once per route."""

from proxy.config.model import RouteConfig
from proxy.exchange import Exchange, Request
from proxy.protocol.fields import ATTEMPT_FIELD, DEADLINE_FIELD, KINDS, UPGRADE
from proxy.protocol.headers import end_to_end, header_editor
from proxy.routing import Rewrite


class RequestHeads:
    """Writes request heads for one route. `host` as in `upstreams.NAME.host`."""

    __slots__ = ("_editor", "_host", "_rewrite", "route")

    def __init__(self, route: RouteConfig, host: str) -> None:
        self.route = route
        edit = route.headers.request
        self._editor = header_editor(edit.set, edit.remove)
        self._rewrite = None if route.rewrite is None else Rewrite(route.rewrite)
        self._host = host

    def build(self, exchange: Exchange, authority: bytes, now: float) -> bytes:
        """The head with its empty line; `authority` is the endpoint's. Raises AmbiguousPath when a rewrite fails."""
        request = exchange.request
        target = request.target if self._rewrite is None else self._rewrite.apply(exchange.params, request.query)
        fields = end_to_end(request.raw_headers)
        fields += exchange.forwarded
        fields.append((ATTEMPT_FIELD, b"%d" % exchange.attempt))
        if exchange.attempt_deadline is not None:
            fields.append((DEADLINE_FIELD, b"%d" % max(1, (exchange.attempt_deadline - now) * 1000)))
        if self._editor is not None:
            fields = self._editor.apply(fields)
        if request.body is not None or request.upgrade:
            fields += _framing(request)
        return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (
            request.method.encode("ascii"),
            target.encode("utf-8", "surrogateescape"),
            self._host_for(request, authority),
            b"\r\n".join([b": ".join(field) for field in fields]),
        )

    def _host_for(self, request: Request, authority: bytes) -> bytes:
        if self._host == "preserve":
            # HTTP/1.0 clients may send none.
            return request.authority.encode("ascii") or authority
        return authority if self._host == "upstream" else self._host.encode("ascii")


def _framing(request: Request) -> list[tuple[bytes, bytes]]:
    fields = []
    if request.body is not None:
        length = request.body.content_length
        fields.append(
            (b"Transfer-Encoding", b"chunked") if length is None else (b"Content-Length", b"%d" % length),
        )
    if request.upgrade:
        fields.append((b"Connection", b"upgrade"))
        fields += [(b"Upgrade", value) for name, value in request.raw_headers if KINDS[name] & UPGRADE]
    return fields
