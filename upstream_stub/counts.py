"""What the service was asked and what it asked its database, for those who measure how much of it a proxy spares."""

from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp, Receive, Scope, Send

_NOT_COUNTED = ("/admin", "/health")


class Counts:
    """Requests since the start, but for /admin and /health, and all statements that the database got."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.requests = 0
        self.queries = 0
        event.listen(engine.sync_engine, "before_cursor_execute", self._count_query)

    def _count_query(self, *_execution: Any) -> None:
        self.queries += 1


class RequestCounter:
    """The application, with its requests counted."""

    def __init__(self, app: ASGIApp, counts: Counts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Counts one request and passes it on."""
        if scope["type"] == "http" and not scope["path"].startswith(_NOT_COUNTED):
            self._counts.requests += 1
        await self._app(scope, receive, send)
