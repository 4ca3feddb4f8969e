"""Exchanges for tests of a single policy, and an innermost handler that does what it is told."""

from collections.abc import Awaitable, Callable, Sequence

from multidict import CIMultiDict

from proxy.config.model import RouteConfig
from proxy.exchange import Exchange, Request, Response
from proxy.protocol.request_checks import CheckedFields
from tests.support.messages import HeadersLike, header_pairs, octets

Outcome = Response | Exception | Callable[[Exchange], Awaitable[Response]]


class PiecewiseBody:
    """A request body that arrives as the given pieces."""

    def __init__(self, *pieces: bytes, content_length: int | None = None) -> None:
        self._pieces = list(pieces)
        self.content_length = content_length
        self.received = 0

    @property
    def is_complete(self) -> bool:
        return not self._pieces

    async def read(self) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        self.received += len(piece)
        return piece


def make_exchange(
    method: str = "GET",
    target: str = "/",
    headers: HeadersLike = (),
    body: bytes | PiecewiseBody | None = None,
    *,
    route: RouteConfig | None = None,
    started: float = 0.0,
) -> Exchange:
    """An exchange as the edge would make it; `body` as bytes has a Content-Length."""
    pairs = [(octets(name), octets(value)) for name, value in header_pairs(headers)]
    view = CIMultiDict((name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in pairs)
    if isinstance(body, bytes):
        body = PiecewiseBody(body, content_length=len(body))
    request = Request(method, target, CheckedFields(pairs), view, authority=view.get("Host", ""), body=body)
    return Exchange(request, route or RouteConfig(name="test", match=("* /*",), upstream="api"), started)


class ScriptedHandler:
    """Gives its outcomes in order, the last one for ever: a response, an error, or a function of the exchange."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes: Sequence[Outcome] = outcomes or (Response(200, [], b""),)
        self.exchanges: list[Exchange] = []
        """One entry for each call."""

    async def handle(self, exchange: Exchange) -> Response:
        outcome = self._outcomes[min(len(self.exchanges), len(self._outcomes) - 1)]
        self.exchanges.append(exchange)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, Response) else await outcome(exchange)
