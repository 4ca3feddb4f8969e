"""The admin listener, which shows and reloads, and the health listener, which only shows."""

from aiohttp import web

from proxy.admin.breakers import breaker_routes
from proxy.admin.caches import cache_routes
from proxy.admin.guard import Guard
from proxy.admin.listener import Listener
from proxy.admin.responses import json_response, problem
from proxy.admin.view import AdminView
from proxy.config.addresses import ListenAddress
from proxy.config.model import AdminConfig
from proxy.telemetry.build import build_info


class HealthServer(Listener):
    """`/metrics`, `/healthz` and `/readyz` for the kubelet and Prometheus, and nothing else."""

    def __init__(self, view: AdminView, address: ListenAddress) -> None:
        super().__init__(address, _Health(view).routes(), check=lambda _: None)


class AdminServer(Listener):
    """All there is to see and to do, behind the guard: the health endpoints too."""

    def __init__(self, view: AdminView, config: AdminConfig) -> None:
        routes = _Health(view).routes() + _Admin(view).routes() + breaker_routes(view) + cache_routes(view)
        super().__init__(config.listen, routes, check=Guard(config).check)

    def guard_by(self, config: AdminConfig) -> None:
        """From now on `config` says who may come in; the address stays."""
        self.check = Guard(config).check


class _Health:
    def __init__(self, view: AdminView) -> None:
        self._view = view

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/metrics", self.metrics),
            web.get("/healthz", self.alive),
            web.get("/readyz", self.ready),
        ]

    async def metrics(self, _: web.Request) -> web.Response:
        body, content_type = await self._view.metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def alive(self, _: web.Request) -> web.Response:
        return json_response({"status": "alive"})

    async def ready(self, _: web.Request) -> web.Response:
        readiness = self._view.ready()
        content = {"ready": readiness.ok, "reasons": readiness.reasons, **readiness.details}
        return json_response(content, 200 if readiness.ok else 503)


class _Admin:
    def __init__(self, view: AdminView) -> None:
        self._view = view
        self._reloading = False

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/routes", self.list_routes),
            web.get("/config", self.config),
            web.get("/version", self.version),
            web.post("/reload", self.reload),
        ]

    async def list_routes(self, _: web.Request) -> web.Response:
        return json_response({"routes": await self._view.routes()})

    async def config(self, _: web.Request) -> web.Response:
        return json_response(self._view.config())

    async def version(self, _: web.Request) -> web.Response:
        return json_response(build_info())

    async def reload(self, _: web.Request) -> web.Response:
        """200 with the digest now in force, 422 with the file's problems, 409 while another reload runs."""
        if self._reloading:
            return problem(409, "A reload is running.")
        self._reloading = True
        try:
            event = await self._view.reload()
        finally:
            self._reloading = False
        if not event.ok:
            return problem(422, event.reason)
        return json_response({"digest": event.digest, "changes": event.changes})
