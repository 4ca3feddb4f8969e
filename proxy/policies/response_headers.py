"""Header fields that the route sets or removes on every response, refusals included."""

from proxy.exchange import Exchange, Handler, Response
from proxy.protocol.headers import HeaderEditor


class ResponseHeaders:
    """Edits the head of whatever comes from below."""

    def __init__(self, inner: Handler, editor: HeaderEditor) -> None:
        self._inner = inner
        self._editor = editor

    async def handle(self, exchange: Exchange) -> Response:
        """Pass the response on with its head edited."""
        response = await self._inner.handle(exchange)
        response.headers = self._editor.apply(response.headers)
        return response
