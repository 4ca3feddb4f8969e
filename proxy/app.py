"""The composition root: what is made from the configuration, and how it starts, reloads and stops."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic, time
from typing import Any

from proxy import __version__
from proxy.admin.breakers import BreakerStatus, ForcedState, breaker_status
from proxy.admin.cache_view import CacheStatus, EntryReport, Purged, SelectionKind, Warming
from proxy.admin.process_cache import ProcessCache
from proxy.admin.server import AdminServer, HealthServer
from proxy.admin.view import Readiness, RouteView
from proxy.config.effective import effective, policies_of
from proxy.config.loader import Loaded
from proxy.config.model import Config, RouteConfig, ServerConfig
from proxy.config.policies import Policy
from proxy.config.problems import ConfigError
from proxy.config.watcher import FileWatcher
from proxy.outbox import Outbox
from proxy.policies.caching.internal import InternalRequests
from proxy.policies.caching.warming import Warmer
from proxy.policies_file import load
from proxy.protocol.caching.stored import Validity
from proxy.runtime import Resources, Runtime
from proxy.server.edge import Edge
from proxy.server.listener import Listener, binding
from proxy.server.shared_port import SharedPort
from proxy.state_registry import StateRegistry
from proxy.storage.purges import Tell
from proxy.telemetry.access_log import AccessLog, CurrentAccessLog, open_access_log
from proxy.telemetry.build import build_info
from proxy.telemetry.events import ReloadEvent
from proxy.telemetry.loop_lag import watch_loop_lag
from proxy.telemetry.registry import Metrics
from proxy.telemetry.statistics import RouteStatistics
from proxy.telemetry.transitions import Transitions

log = logging.getLogger("tidegate")

ACCEPT_WHILE_DRAINING = 0.5
"""Seconds in which new connections are still taken after readiness has failed: load balancers need a moment."""
CONNECTION_GRACE = 0.5
"""Seconds for clients to see `Connection: close` before idle connections are closed."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a worker has from its supervisor: no file to watch, no admin and no health listener."""

    port: SharedPort
    load: Callable[[], Loaded]
    """The worker's share of the configuration that is to be in force."""


class App:
    """One Tidegate. `start` may raise ConfigError or OSError, and has then left nothing behind."""

    def __init__(self, path: Path, inherited: Inherited | None = None, *, wall: Callable[[], float] = time) -> None:
        self._path = path
        self._inherited = inherited
        self._wall = wall
        self._metrics = Metrics(build_info())
        self.tell: Tell | None = None
        """Tells the other workers, where there are any, what was purged here."""
        self._warmer = Warmer(self._metrics.cache_store, clock=monotonic)
        self._edge: Edge
        self._access_log: CurrentAccessLog
        self._resources: Resources
        self._listener: Listener
        self._admin: AdminServer | None = None
        self._health: HealthServer | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._retired: set[asyncio.Task[None]] = set()
        self._listening = False
        self._reloading = asyncio.Lock()
        self._watcher: FileWatcher

    # --- life ---

    async def start(self, loaded: Loaded | None = None, watcher: FileWatcher | None = None) -> None:
        """Load, bind every listener, and be ready. `loaded` and `watcher`, made before it, spare a second reading."""
        self._watcher = watcher or FileWatcher(self._path)  # before the file is read: no change can slip in between
        loaded = loaded or self._load()
        server = loaded.config.server
        random = Random()  # noqa: S311 - for load balancing, jitter and request ids; no secret depends on it
        pseudonym = b"tidegate-%b" % random.randbytes(4).hex().encode()
        loop = asyncio.get_running_loop()
        states = self._metrics.states = StateRegistry(monotonic)
        transitions = Transitions()
        self._resources = Resources(
            loop, monotonic, random, self._metrics, Outbox(loop), states, transitions, self._wall
        )
        self._access_log = CurrentAccessLog(self._open_log(server))
        runtime = Runtime.build(loaded.config, self._resources, self._access_log)
        self._connect(runtime)
        self._edge = Edge(runtime, self._resources.outbox, self._metrics.server, random, pseudonym)
        try:
            await self._listen(server)
        except OSError:
            await self.stop(drain=0.0)
            raise
        await self._watch(runtime)
        await self._warm_by(runtime, holds_readiness=True)
        self._in_force(loaded.config)
        self._listening = True
        addresses = {"listen": str(server.listen), "admin": str(server.admin.listen) if server.admin else "off"}
        log.info("ready", extra={"version": __version__, **addresses, "digest": loaded.config.digest})

    async def stop(self, drain: float = 0.0, accept: float = 0.0) -> None:
        """Stop taking connections `accept` seconds from now, and end what is under way after `drain` seconds."""
        edge = self._edge
        edge.draining = self._metrics.server.draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._warmer.close()
        if accept and drain:
            await asyncio.sleep(min(accept, drain))
        self._listening = False
        await self._listener.stop()
        await self._drain(drain)
        await edge.shutdown()
        await edge.runtime.close()
        await asyncio.gather(*self._retired, return_exceptions=True)
        for listener in (self._admin, self._health):
            if listener is not None:
                await listener.stop()
        self._access_log.close()

    async def _listen(self, server: ServerConfig) -> None:
        if self._inherited is not None:
            self._listener = Listener(server.listen, self._edge, self._inherited.port)
            await self._listener.start()
            return
        self._listener = Listener(server.listen, self._edge)
        if server.admin is not None:
            self._admin = AdminServer(self, server.admin)
            with binding(server.admin.listen):
                await self._admin.start()
        if server.health is not None:
            self._health = HealthServer(self, server.health)
            with binding(server.health):
                await self._health.start()
        with binding(server.listen):
            await self._listener.start()

    async def _watch(self, runtime: Runtime) -> None:
        await runtime.start()
        self._tasks = [asyncio.create_task(watch_loop_lag(self._edge.lagged, monotonic))]
        if self._inherited is None:
            self._tasks.append(asyncio.create_task(self._reload_on_change()))

    def _connect(self, runtime: Runtime) -> None:
        if runtime.cache is not None:
            runtime.cache.purges.tell = self.tell

    async def _warm_by(self, runtime: Runtime, *, holds_readiness: bool = False) -> None:
        """Warm the cache as the configuration says, if that is not what is being done or has been done."""
        resources, config = self._resources, runtime.config
        requests = InternalRequests(
            runtime.router,
            runtime.warming,
            config.upstreams,
            loop=resources.loop,
            clock=resources.clock,
            wall=resources.wall,
            random_bytes=resources.random.randbytes,
        )
        warm = None if runtime.cache is None else config.cache.warm
        await self._warmer.go_by(warm, requests, runtime.targets, holds_readiness=holds_readiness)

    async def _drain(self, limit: float) -> None:
        """Let exchanges end; connections that wait for a request are told by a close when they have had their grace."""
        edge = self._edge
        edge.close_tunnels()
        if not limit:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await asyncio.sleep(CONNECTION_GRACE)
                while not await self._is_deserted_within(CONNECTION_GRACE):
                    pass

    async def _is_deserted_within(self, grace: float) -> bool:
        """Close what is idle, and see whether the last client leaves.

        Once is not enough: a response whose head went out before the drain has not told its client to leave.
        """
        self._edge.close_idle()
        try:
            async with asyncio.timeout(grace):
                await self._edge.deserted()
        except TimeoutError:
            return False
        return True

    # --- configuration ---

    async def reload(self) -> ReloadEvent:
        """Load the file again; what was in force stays when it is refused."""
        async with self._reloading:
            before = self._edge.runtime.config.digest
            self._watcher.look()
            try:
                loaded = await asyncio.to_thread(self._load)  # a large file takes its time
                changes = await self._replace(loaded.config)
            except (ConfigError, OSError) as error:
                event = ReloadEvent(ok=False, digest=before, reason=str(error), at=time())
                log.error("reload refused, the configuration stays as it was", extra={"problems": event.reason})
            else:
                event = ReloadEvent(ok=True, digest=loaded.config.digest, reason="", at=time(), changes=changes)
                changed = event.digest != before
                log.info(
                    "configuration reloaded" if changed else "configuration unchanged",
                    extra={"digest": event.digest, "changes": list(changes)},
                )
                self._in_force(loaded.config)
            self._metrics.server.reloaded(event)
            return event

    def _load(self) -> Loaded:
        return load_and_warn(self._path) if self._inherited is None else self._inherited.load()

    async def _replace(self, config: Config) -> tuple[str, ...]:
        """Put `config` in force; what became of the state of the policies."""
        old, edge = self._edge.runtime, self._edge
        if config.digest == old.config.digest:
            return ()
        if self._inherited is None:
            warn_of_restart(old.config.server, config.server)
        # All that can fail comes before the build: it adapts the state of the policies that are in force.
        is_same_log = config.server.access_log == old.config.server.access_log
        new_log = None if is_same_log else self._open_log(config.server)
        try:
            runtime = Runtime.build(config, self._resources, self._access_log, previous=old)
        except OSError:
            if new_log is not None:
                new_log.close()
            raise
        old_log = None if new_log is None else self._access_log.replace(new_log)
        self._connect(runtime)
        edge.runtime = runtime
        edge.known_heads.clear()
        await runtime.start()
        await self._warm_by(runtime)
        if self._admin is not None and config.server.admin is not None:
            self._admin.guard_by(config.server.admin)
        task = asyncio.create_task(self._retire(old, runtime, old_log))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)
        return runtime.changes

    async def _retire(self, old: Runtime, successor: Runtime, access_log: AccessLog | None) -> None:
        await old.close(successor)
        if access_log is not None:
            await asyncio.to_thread(access_log.close)  # whoever reads it may have stopped

    async def _reload_on_change(self) -> None:
        while True:
            await self._watcher.changed()
            try:
                await self.reload()
            except Exception:
                log.exception("Bug: the reload failed; the configuration stays as it was")

    def _open_log(self, server: ServerConfig) -> AccessLog:
        access_log = open_access_log(server.access_log)
        self._metrics.watch_access_log(access_log)
        return access_log

    def _in_force(self, config: Config) -> None:
        self._metrics.pools = self._edge.runtime.upstreams
        self._metrics.has_redis = config.redis is not None
        self._metrics.server.client_connection_limit = config.server.limits.max_connections
        self._metrics.server.loaded(config.digest, time())

    def reopen_logs(self) -> None:
        """Go on in new files: the old ones have been rotated away."""
        self._access_log.reopen()

    # --- what the admin listener asks (AdminView) ---

    @property
    def port(self) -> int:
        """The data port in use."""
        return self._listener.port

    @property
    def admin_port(self) -> int:
        """The admin port in use; 0 without one."""
        return 0 if self._admin is None else self._admin.port

    @property
    def drain_limit(self) -> float:
        """`server.drain` in force, seconds."""
        return self._edge.runtime.config.server.drain

    def ready(self) -> Readiness:
        """Ready means: configured, listening and not draining. The upstreams decide only where the file says so."""
        runtime, draining = self._edge.runtime, self._edge.draining
        upstreams = {
            name: [{"endpoint": each.endpoint, "state": each.state} for each in upstream.snapshot()]
            for name, upstream in runtime.upstreams.items()
        }
        down = [name for name, endpoints in upstreams.items() if all(e["state"] != "healthy" for e in endpoints)]
        reasons = ["draining"] if draining else [] if self._listening else ["not listening"]
        if runtime.config.server.ready_needs_upstream:
            reasons += [f"upstream {name} has no healthy endpoint" for name in down]
        if unready := self._warmer.unready():
            reasons.append(unready)
        details = {"draining": draining, "config": runtime.config.digest, "upstreams": upstreams}
        return Readiness(not reasons, tuple(reasons), details)

    def _route_view(self, route: RouteConfig) -> RouteView:
        metrics = self._metrics.route(route.name)
        return view_of(route, metrics.in_flight, metrics.statistics())

    def config(self) -> dict[str, Any]:
        """The effective configuration, secrets masked."""
        return effective(self._edge.runtime.config)

    async def routes(self) -> list[RouteView]:
        """The routes in force, in the order of the file."""
        return [self._route_view(route) for route in self._edge.runtime.config.routes]

    async def metrics(self) -> tuple[bytes, str]:
        """All metrics in the Prometheus text format, and its content type."""
        self._metrics.server.ready = self.ready().ok
        return self._metrics.expose()

    async def breakers(self) -> list[BreakerStatus]:
        """All breakers in force; a name appears once for each mode."""
        now = monotonic()
        states = self._resources.states.of("breaker")
        return [breaker_status(name, mode, breaker.snapshot(now), now) for name, mode, breaker in states]

    async def force_breaker(self, name: str, state: ForcedState, seconds: float) -> bool:
        """Force it for that long; False: there is none of that name."""
        now = monotonic()
        forced = [breaker for each, _, breaker in self._resources.states.of("breaker") if each == name]
        for breaker in forced:
            breaker.force(state, now + seconds, now)
        return bool(forced)

    async def release_breaker(self, name: str) -> bool:
        """End the force, if there is any; False: there is no breaker of that name."""
        released = [breaker for each, _, breaker in self._resources.states.of("breaker") if each == name]
        for breaker in released:
            breaker.release(monotonic())
        return bool(released)

    async def purge(self, kind: SelectionKind, values: Sequence[str], *, soft: bool) -> Purged:
        """Purge here at once, and everywhere else as far as it can be reached."""
        return await self._cache.purge(kind, values, soft=soft)

    async def caches(self) -> list[CacheStatus]:
        """That of this process; none when no route has a cache."""
        status = self._cache.status()
        return [] if status is None else [status]

    async def cache_entry(self, url: str) -> EntryReport:
        """What is stored for a path, under any authority, or for a whole URL."""
        return await self._cache.entry(url)

    async def warm(self) -> Warming:
        """Fetch again what the file says."""
        return await self._cache.warm()

    @property
    def _cache(self) -> ProcessCache:
        runtime = self._edge.runtime
        return ProcessCache(runtime.config, runtime.cache, runtime.targets, self._warmer)

    # --- what a supervisor asks of a worker ---

    def heard(self, tags: Sequence[str], validity: Validity) -> None:
        """Another worker has purged something."""
        if hasattr(self, "_edge"):  # else nothing can be stored yet
            self._cache.heard(tags, validity)

    @property
    def instruments(self) -> Metrics:
        """All that is counted."""
        return self._metrics


def load_and_warn(path: Path) -> Loaded:
    """Load the file; its warnings go into the log. Raises ConfigError or OSError."""
    loaded = load(path)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    return loaded


def view_of(route: RouteConfig, in_flight: int, statistics: RouteStatistics) -> RouteView:
    """The route as the admin listener shows it."""
    return RouteView(
        name=route.name,
        match=route.match,
        upstream=route.upstream,
        timeouts=route.timeout.model_dump(exclude=set(Policy.model_fields)),
        policies=tuple(policies_of(route)),
        in_flight=in_flight,
        statistics=statistics,
    )


def warn_of_restart(old: ServerConfig, new: ServerConfig) -> None:
    """Listeners and the number of workers stay as they are until the process is started again."""
    if old.workers != new.workers:
        log.warning("server.workers has changed: it takes effect at the next start")
    addresses = {
        "listen": (old.listen, new.listen),
        "admin": (old.admin and old.admin.listen, new.admin and new.admin.listen),
        "health": (old.health, new.health),
    }
    for name, (before, after) in addresses.items():
        if before != after:
            log.warning("the address of server.%s has changed: it takes effect at the next start", name)
