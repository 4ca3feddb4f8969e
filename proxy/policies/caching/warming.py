"""Fills the cache before anybody asks: with the URLs of the configuration, or those that the upstream lists."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Final, Literal
from urllib.parse import quote

from proxy.config.caching import WarmConfig
from proxy.errors import ProxyError
from proxy.exchange import Body, Response
from proxy.policies.caching.internal import LIMIT, InternalRequests, Wanted
from proxy.policies.caching.targets import Targets
from proxy.policies.caching.url_lists import listed_urls
from proxy.protocol.caching.keys import CacheKey
from proxy.telemetry.cache_instruments import CacheStoreMetrics

log = logging.getLogger("tidegate.cache")

MAX_LIST: Final = 1024 * 1024
"""Bytes of a list of URLs."""
HOLDS_READINESS: Final = 60.0
"""Seconds for which an instance waits to be warm at most."""
_AT_ONCE: Final = 8
"""URLs that are fetched at a time, however fast they may follow each other."""
_LONGEST: Final = 8192
_TURN: Final = 500
"""So many URLs of a list are looked at before others have a turn."""
_FIRST_ERROR: Final = 400
_OK: Final = 200
_PATIENCE: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds after which the list is asked for again: an upstream may start later than its sidecar."""
_ABSOLUTE: Final = re.compile(r"(https?)://([^/?#]+)([^#]*)", re.IGNORECASE | re.DOTALL)
_KEPT: Final = "!$%&'()*+,-./:;=?@[]_~"
"""Characters of a target that stay as they are, beside letters and digits."""


@dataclass(slots=True)
class WarmProgress:
    """How far it has come."""

    state: str = "listing"
    """`listing`, `running`, `ended`, or `failed` when there was no list to be had."""
    total: int = 0
    done: int = 0
    failed: int = 0
    problem: str = ""
    """Why there is no list."""


class Warmer:
    """Fetches at most `limit` URLs, at most `rate` a second. It outlives configurations. `clock` is monotonic seconds.

    Of a list only what a cached route of the same upstream would answer is fetched.
    """

    def __init__(
        self,
        metrics: CacheStoreMetrics,
        *,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._config: WarmConfig | None = None
        self._requests: InternalRequests
        self._targets: Targets
        self._task: asyncio.Task[None] | None = None
        self._holds_until = 0.0
        self.progress: WarmProgress | None = None
        """None: there is nothing to fetch."""

    # --- life ---

    async def go_by(
        self, config: WarmConfig | None, requests: InternalRequests, targets: Targets, *, holds_readiness: bool = False
    ) -> None:
        """Fetch what `config` says by these from now on, at once if it says something new.

        With `holds_readiness`, `unready` says so where the file wants it to.
        """
        self._requests, self._targets = requests, targets
        if config == self._config:
            return
        await self.close()
        self._config = config
        self._holds_until = self._clock() + HOLDS_READINESS if holds_readiness and config and config.ready else 0.0
        self.progress = None
        self.start()

    def start(self) -> Literal["started", "running", "off"]:
        """Begin, unless it runs already or there is nothing to fetch."""
        if self._config is None:
            return "off"
        if self._task is not None and not self._task.done():
            return "running"
        self.progress = WarmProgress()
        self._task = asyncio.get_running_loop().create_task(self._run(self._config, self.progress))
        return "started"

    async def close(self) -> None:
        """Stop; what is under way is given up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def unready(self) -> str:
        """Why the instance does not want traffic yet; empty when it does, and after a minute in any case."""
        progress = self.progress
        if progress is None or progress.state in ("ended", "failed") or self._clock() >= self._holds_until:
            return ""
        return f"warming {progress.done + progress.failed} of {progress.total}" if progress.total else "warming"

    # --- the work ---

    async def _run(self, config: WarmConfig, progress: WarmProgress) -> None:
        try:
            wanted = await self._wanted(config, progress)
            if wanted is None:
                progress.state = "failed"
                log.warning("the cache is not warmed", extra={"reason": progress.problem})
                return
            progress.total = len(wanted)
            progress.state = "running"
            await self._fetch_all(wanted, config.rate.period / config.rate.count, progress)
        except Exception:
            log.exception("Bug: warming the cache has failed")
        progress.state = "ended"
        log.info("the cache has been warmed", extra={"fetched": progress.done, "failed": progress.failed})

    async def _fetch_all(self, wanted: list[Wanted], interval: float, progress: WarmProgress) -> None:
        under_way: set[asyncio.Task[None]] = set()
        due = self._clock()
        try:
            for each in wanted:
                while len(under_way) >= _AT_ONCE:
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                wait = due - self._clock()
                if wait > 0:
                    await self._sleep(wait)
                due = max(due, self._clock()) + interval
                task = asyncio.get_running_loop().create_task(self._warm(each, progress))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            while under_way:
                await asyncio.wait(under_way)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _warm(self, wanted: Wanted, progress: WarmProgress) -> None:
        is_good = False
        try:
            async with asyncio.timeout(LIMIT * 2), self._answer(wanted) as response:
                await _read(response, None)
                is_good = response.status < _FIRST_ERROR
        except (ProxyError, TimeoutError):
            pass
        except Exception:
            log.exception("Bug: a URL could not be fetched to warm the cache")
        progress.done += is_good
        progress.failed += not is_good
        self._metrics.warm_ended("ok" if is_good else "failed")

    # --- what is wanted ---

    async def _wanted(self, config: WarmConfig, progress: WarmProgress) -> list[Wanted] | None:
        """What to fetch; None when there is only a list, and that cannot be had."""
        found = dict.fromkeys(_wanted(config, url) for url in config.urls)
        if config.source is not None:
            listed = await self._listed(config, config.source, progress)
            if listed is None and not found:
                return None
            found |= dict.fromkeys(listed or ())
        return list(found)[: config.limit]

    async def _listed(self, config: WarmConfig, source: str, progress: WarmProgress) -> list[Wanted] | None:
        for patience in (*_PATIENCE, None):
            try:
                async with asyncio.timeout(LIMIT * 2), self._answer(_wanted(config, source)) as response:
                    if response.status == _OK:
                        body = await _read(response, MAX_LIST)
                        return await self._ours(config, listed_urls(body, source), source)
                    progress.problem = f"{source} was answered with status {response.status}"
            except _TooLong:
                progress.problem = f"what {source} lists is longer than {MAX_LIST} bytes"
                return None
            except (ProxyError, TimeoutError) as error:
                progress.problem = f"{source} was not answered: {error}"
            if patience is not None:
                await self._sleep(patience)
        return None

    async def _ours(self, config: WarmConfig, urls: Iterator[str], source: str) -> list[Wanted]:
        """Those of the same upstream that could be stored, as many as will be fetched."""
        upstream = self._requests.upstream_of(source)
        authorities = {config.host} if config.host else {each.authority for each in upstream.endpoints}
        ours: dict[Wanted, None] = {}
        for number, url in enumerate(urls, start=1):
            if number % _TURN == 0:
                await asyncio.sleep(0)
            absolute = _ABSOLUTE.fullmatch(url)
            scheme, authority = (absolute[1].lower(), absolute[2].lower()) if absolute else ("", "")
            target = _origin_form(absolute[3] if absolute else url)
            if authority in ("", *authorities) and self._could_be_stored(target, upstream.name):
                ours[_wanted(config, target, scheme, authority)] = None
                if len(ours) >= config.limit:
                    break
        return list(ours)

    def _could_be_stored(self, target: str, upstream: str) -> bool:
        found = self._targets.find(target) if len(target) <= _LONGEST else None
        if found is None or found.route.upstream != upstream or found.route.cache is None:
            return False
        return not found.route.cache.per_user and isinstance(found.key("", "http"), CacheKey)

    @contextlib.asynccontextmanager
    async def _answer(self, wanted: Wanted) -> AsyncIterator[Response]:
        response = await self._requests.get(wanted)
        try:
            yield response
        finally:
            response.close()

    def __repr__(self) -> str:
        return f"<Warmer {self.progress}>"


class _TooLong(Exception):
    """A list has more bytes than we read."""


async def _read(response: Response, limit: int | None) -> bytes:
    """The body, or nothing without `limit`: it has been read all the same. Raises ProxyError and _TooLong."""
    if isinstance(response.body, bytes):
        pieces = [response.body]
    else:
        pieces = await _pieces(response.body, limit)
    if limit is not None and sum(map(len, pieces)) > limit:
        raise _TooLong
    return b"".join(pieces)


async def _pieces(body: Body, limit: int | None) -> list[bytes]:
    pieces: list[bytes] = []
    length = 0
    while piece := await body.read():
        length += len(piece)
        if limit is not None:
            pieces.append(piece)
            if length > limit:
                break
    return pieces


def _wanted(config: WarmConfig, target: str, scheme: str = "", authority: str = "") -> Wanted:
    return Wanted(target, scheme or config.scheme, authority or config.host or "")


def _origin_form(target: str) -> str:
    """A path with its query as it is sent: without a fragment, and with nothing that must be encoded."""
    target = target.partition("#")[0]
    return quote(target if target.startswith("/") else f"/{target}", safe=_KEPT)
