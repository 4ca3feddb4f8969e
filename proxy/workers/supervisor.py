"""The supervisor: binds the ports, keeps the workers running, and speaks for all of them."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, time
from typing import Any, NamedTuple

from proxy import __version__
from proxy.admin.breakers import BreakerStatus, ForcedState
from proxy.admin.cache_view import NO_ANSWER, CacheStatus, EntryReport, Purged, SelectionKind, Warming
from proxy.admin.server import AdminServer, HealthServer
from proxy.admin.view import Readiness, RouteView
from proxy.app import load_and_warn, warn_of_restart
from proxy.config.effective import effective
from proxy.config.loader import Loaded
from proxy.config.model import Config, ServerConfig
from proxy.config.problems import ConfigError
from proxy.config.watcher import FileWatcher
from proxy.process import StartFailed
from proxy.server.listener import binding, unlink
from proxy.server.shared_port import SharedPort, bind_shared
from proxy.telemetry.build import build_info
from proxy.telemetry.events import ReloadEvent
from proxy.telemetry.exposition import CONTENT_TYPE
from proxy.telemetry.merge import render_merged
from proxy.telemetry.registry import Metrics
from proxy.workers.child import STATES, Child
from proxy.workers.division import divide
from proxy.workers.slot import Slot
from proxy.workers.timing import PULSE, USUAL, Timing
from proxy.workers.views import RECENT_REQUESTS, caches_of, entries_of, readiness_of, routes_of

log = logging.getLogger("tidegate.workers")

REASONS = ("crashed", "killed", "blocked", "reload")


class _Forced(NamedTuple):
    state: ForcedState
    until: float
    """Monotonic seconds."""


class Supervisor:
    """Several workers as one Tidegate: an AdminView, and what `serve` runs and stops.

    `start` may raise ConfigError, OSError or StartFailed, and has then left nothing behind.
    """

    def __init__(self, path: Path, workers: int, timing: Timing = USUAL) -> None:
        self._path = path
        self._count = workers
        self._timing = timing
        self._metrics = Metrics(build_info())
        self._metrics.worker_restarts = dict.fromkeys(REASONS, 0)
        self._config: Config
        self._ports: list[SharedPort] = []
        self._slots: list[Slot] = []
        self._running: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._admin: AdminServer | None = None
        self._health: HealthServer | None = None
        self._one_serves = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._watcher: FileWatcher
        self._forced: dict[str, _Forced] = {}

    # --- life ---

    async def start(self, loaded: Loaded | None = None, watcher: FileWatcher | None = None) -> None:
        """Bind every listener, start all workers, and return when the first is ready."""
        self._watcher = watcher or FileWatcher(self._path)
        self._config = (loaded or load_and_warn(self._path)).config
        server = self._config.server
        try:
            await self._listen(server)
            self._start_workers()
            await self._first_worker()
        except (OSError, StartFailed):
            await self.stop()
            raise
        self._metrics.server.loaded(self._config.digest, time())
        self._tasks.append(asyncio.create_task(self._reload_on_change()))
        addresses = {"listen": str(server.listen), "admin": str(server.admin.listen) if server.admin else "off"}
        log.info(
            "ready",
            extra={"version": __version__, **addresses, "digest": self._config.digest, "workers": self._count},
        )

    async def stop(self, drain: float = 0.0, accept: float = 0.0) -> None:
        """Have all workers stop as the App does; whoever takes longer is killed."""
        self._metrics.server.draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for port in self._ports:
            for sock in port.own:
                sock.close()  # the workers have theirs: the port is closed when the last of them closes it
        for slot in self._slots:
            slot.leave(drain, accept)
        self._one_serves.set()
        if self._running:
            await asyncio.wait(self._running, timeout=drain + min(accept, drain) + self._timing.last_words)
        for slot in self._slots:
            slot.kill()
        await asyncio.gather(*self._running)
        if self._ports:
            unlink(self._config.server.listen)
        self._ports = []
        for listener in (self._admin, self._health):
            if listener is not None:
                await listener.stop()

    async def _listen(self, server: ServerConfig) -> None:
        if server.admin is not None:
            self._admin = AdminServer(self, server.admin)
            with binding(server.admin.listen):
                await self._admin.start()
        if server.health is not None:
            self._health = HealthServer(self, server.health)
            with binding(server.health):
                await self._health.start()
        with binding(server.listen):
            self._ports = bind_shared(server.listen, self._count)

    def _start_workers(self) -> None:
        for index, port in enumerate(self._ports):
            slot = Slot(
                index,
                port,
                self._timing,
                one_serves=self._one_serves,
                share=self._share,
                joined=self._force_again,
                ended=self._ended,
                purged=self._pass_on,
            )
            self._slots.append(slot)
            self._running.append(asyncio.create_task(slot.run()))
        self._tasks.append(asyncio.create_task(self._watch()))

    async def _first_worker(self) -> None:
        """Wait until one serves. Raises StartFailed when none can."""
        problem = ""
        for first in asyncio.as_completed([slot.first for slot in self._slots]):
            problem = await first
            if not problem:
                self._one_serves.set()
                return
        raise StartFailed(problem)

    async def _watch(self) -> None:
        """Look after workers that do not report."""
        interval = PULSE / 2
        while True:
            due = monotonic() + interval
            await asyncio.sleep(interval)
            asleep = max(0.0, monotonic() - due)  # when we were stopped ourselves, nobody else is to blame
            for child in self._children:
                child.check(asleep)
                child.purges.catch_up()

    def _share(self, index: int) -> Config:
        return divide(self._config, self._count, index)

    def _ended(self, reason: str) -> None:
        self._metrics.worker_restarts[reason] += 1

    @property
    def _children(self) -> list[Child]:
        return [slot.child for slot in self._slots if slot.child is not None]

    # --- configuration ---

    async def reload(self) -> ReloadEvent:
        """Load the file again and have every worker go by it; what was in force stays when it is refused."""
        async with self._reloading:
            self._watcher.look()
            try:
                loaded = await asyncio.to_thread(load_and_warn, self._path)
            except (ConfigError, OSError) as error:
                event = ReloadEvent(ok=False, digest=self._config.digest, reason=str(error), at=time())
            else:
                event = await self._bring_into_force(loaded.config)
            if event.ok:
                log.info("configuration in force", extra={"digest": event.digest})
            else:
                log.error("reload refused, the configuration stays as it was", extra={"problems": event.reason})
            self._metrics.server.reloaded(event)
            return event

    async def _bring_into_force(self, config: Config) -> ReloadEvent:
        """One version is in force afterwards: workers that do not have it are replaced."""
        before = self._config
        warn_of_restart(before.server, config.server)
        self._config = config  # from here on for whoever starts, too
        answers = await asyncio.gather(*(child.reload(self._share(child.index)) for child in self._children))
        events = [event for event in answers if event is not None]
        accepted = [event for event in events if event.ok]
        if events and not accepted:
            self._config = before
            event = events[0]
        else:
            done = ReloadEvent(ok=True, digest=config.digest, reason="", at=time())
            event = replace(accepted[0], at=done.at) if accepted else done
            if self._admin is not None and config.server.admin is not None:
                self._admin.guard_by(config.server.admin)
        for slot in self._slots:
            if slot.child is not None and slot.child.digest != self._config.digest:
                slot.replace(self.drain_limit)
        return event

    async def _reload_on_change(self) -> None:
        while True:
            await self._watcher.changed()
            try:
                await self.reload()
            except Exception:
                log.exception("Bug: the reload failed; the configuration stays as it was")

    # --- what goes to all workers ---

    def reopen_logs(self) -> None:
        """Have every worker go on in new files."""
        for child in self._children:
            child.channel.tell("reopen_logs")

    async def _command(self, name: str, /, **arguments: Any) -> dict[int, Any]:
        """What each worker, by number, answers to one of `worker.COMMANDS`; one that does not answer is left out."""
        children = self._children
        answers = await asyncio.gather(*(child.command(name, **arguments) for child in children))
        return {child.index: answer for child, answer in zip(children, answers, strict=True) if answer is not None}

    async def breakers(self) -> list[BreakerStatus]:
        """Those of all workers."""
        answers = await self._command("breakers")
        return [BreakerStatus(**{**each, "worker": worker}) for worker, found in answers.items() for each in found]

    async def force_breaker(self, name: str, state: ForcedState, seconds: float) -> bool:
        """Force it in every worker, also in one that is started before the time is over."""
        self._forced[name] = _Forced(state, monotonic() + seconds)
        known = any((await self._command("force_breaker", name=name, state=state, seconds=seconds)).values())
        if not known:
            self._forced.pop(name, None)  # a release may have come in between
        return known

    async def release_breaker(self, name: str) -> bool:
        """End the force in every worker."""
        self._forced.pop(name, None)
        return any((await self._command("release_breaker", name=name)).values())

    async def _force_again(self, child: Child) -> None:
        now = monotonic()
        self._forced = {name: forced for name, forced in self._forced.items() if forced.until > now}
        for name, forced in self._forced.items():
            await child.command("force_breaker", name=name, state=forced.state, seconds=forced.until - now)

    # --- the cache ---

    async def _pass_on(self, origin: Child, tags: Sequence[str], validity: int) -> bool:
        """Tell all other workers what one of them has purged. Whether they have taken it."""
        others = (child for child in self._children if child is not origin)
        return all(await asyncio.gather(*(child.hear(tags, validity) for child in others)))

    async def purge(self, kind: SelectionKind, values: Sequence[str], *, soft: bool) -> Purged:
        """Have one worker purge; it tells Redis, and the others hear of it as of any other purge."""
        for child in self._children:
            answer = await child.command("purge", kind=kind, values=values, soft=soft)
            if answer is not None:
                return Purged(**{**answer, "tags": tuple(answer["tags"])})
        return Purged(problem=NO_ANSWER)

    async def caches(self) -> list[CacheStatus]:
        """Those of all workers."""
        return caches_of(await self._command("caches"))

    async def cache_entry(self, url: str) -> EntryReport:
        """What the workers that answer have stored."""
        return entries_of(await self._command("cache_entry", url=url))

    async def warm(self) -> Warming:
        """Have every worker fetch again what the file says, each its own share of the rate."""
        answers = set((await self._command("warm")).values())
        return "started" if "started" in answers else "running" if "running" in answers else "off"

    # --- what the admin listener asks (AdminView) ---

    @property
    def port(self) -> int:
        """The data port in use; 0 on a Unix socket."""
        sock = self._ports[0].own[0]
        return 0 if sock.family == socket.AF_UNIX else int(sock.getsockname()[1])

    @property
    def admin_port(self) -> int:
        """The admin port in use; 0 without one."""
        return 0 if self._admin is None else self._admin.port

    @property
    def drain_limit(self) -> float:
        """`server.drain` in force, seconds."""
        return self._config.server.drain

    def ready(self) -> Readiness:
        """Ready while at least one worker is."""
        return readiness_of(self._children, draining=self._metrics.server.draining, digest=self._config.digest)

    def config(self) -> dict[str, Any]:
        """The effective configuration of the whole, secrets masked."""
        return effective(self._config)

    async def routes(self) -> list[RouteView]:
        """The routes in force, with what the workers that answer have counted."""
        names = [route.name for route in self._config.routes]
        recent = RECENT_REQUESTS // self._count
        asked = (child.ask("routes", names=names, recent=recent) for child in self._children)
        answers = [answer for answer in await asyncio.gather(*asked) if answer is not None]
        return routes_of(self._config, answers)

    async def metrics(self) -> tuple[bytes, str]:
        """The metrics of all workers, put together, and their content type."""
        await asyncio.gather(*(child.ask("refresh") for child in self._children))
        states = Counter(child.state for child in self._children)
        down = self._count - len(self._children)
        self._metrics.workers = {**{state: states[state] for state in STATES}, "down": down}
        self._metrics.server.ready = self.ready().ok
        for child in self._children:
            child.measure()
        parts = [*(slot.past for slot in self._slots), *(child.values for child in self._children)]
        return render_merged(self._metrics.with_process(), parts), CONTENT_TYPE
