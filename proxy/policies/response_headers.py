"""Header fields that the route sets or removes on every response, refusals included."""

from proxy.config.model import HeaderEdit
from proxy.exchange import Exchange, Handler, Response
from proxy.protocol.headers import HeaderEditor


class ResponseHeaders:
    """Edits the head of whatever comes from below, and tells the edge which of its own fields to leave out."""

    def __init__(self, inner: Handler, edit: HeaderEdit) -> None:
        self._inner = inner
        self._editor = HeaderEditor(edit.set, edit.remove)
        self._withheld = frozenset(name.lower().encode() for name in edit.remove)

    async def handle(self, exchange: Exchange) -> Response:
        """Pass the response on with its head edited."""
        response = await self._inner.handle(exchange)
        response.headers = self._editor.apply(response.headers)
        response.withheld = self._withheld
        return response
