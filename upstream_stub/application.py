"""The property service as an ASGI application."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from upstream_stub import admin, catalogue, properties, property_writes, service
from upstream_stub.counts import Counts, RequestCounter
from upstream_stub.faults import FaultRules
from upstream_stub.injector import FaultInjector
from upstream_stub.web import answer_problem

Endpoint = Callable[[Request], Awaitable[Response]]


def _resource(path: str, **endpoints: Endpoint) -> Route:
    """One route for all methods of `path`, so that a 405 names all of them; GET answers HEAD too."""

    async def answer(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, answer, methods=list(endpoints))


ROUTES = (
    _resource("/health", GET=service.health),
    _resource("/properties", GET=properties.list_properties, POST=property_writes.create_property),
    _resource(
        "/properties/{id}",
        GET=properties.show_property,
        PUT=property_writes.replace_property,
        PATCH=property_writes.change_property,
        DELETE=property_writes.delete_property,
    ),
    _resource("/properties/{id}/price-history", GET=properties.show_price_history),
    _resource("/properties/{id}/prediction", GET=properties.predict_price),
    _resource("/search", GET=catalogue.search),
    _resource("/listings", GET=catalogue.list_listings),
    _resource("/suburbs/{suburb}/aggregate", GET=catalogue.aggregate_suburb),
    _resource("/auth/login", POST=service.login),
    _resource("/webhooks/{source}", POST=service.receive_webhook),
    _resource("/admin/stats", GET=admin.show_stats),
    _resource("/admin/counts", GET=admin.show_counts),
    _resource("/admin/faults", GET=admin.show_faults, POST=admin.put_fault, DELETE=admin.clear_faults),
)


def build_app(engine: AsyncEngine, rules: FaultRules) -> ASGIApp:
    """The service on `engine`, with the faults that `rules` and request headers ask for."""
    app = Starlette(routes=ROUTES, exception_handlers={HTTPException: answer_problem, Exception: answer_problem})
    app.router.redirect_slashes = False
    app.state.engine = engine
    app.state.rules = rules
    app.state.counts = Counts(engine)
    return RequestCounter(FaultInjector(app, rules), app.state.counts)
