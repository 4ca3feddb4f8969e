"""What a fallback can answer with: something fixed, a file, null fields, another upstream, what the cache has left."""

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, time
from typing import Any, Final, Protocol

from proxy.config.policies import FallbackConfig, FallbackStep, FileFallback, StaticFallback
from proxy.errors import InternalError, ProxyError, Source
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.caching.steps import LastKnownGood, Stale
from proxy.policies.outcome import FIRST_FAILURE_STATUS
from proxy.policies.timeout import Attempt, Total

MAX_FILE: Final = 1024 * 1024
"""Bytes of a file that a fallback may answer with: it is kept in memory."""
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_CONTENT_TYPES: Final[Mapping[str, str]] = {
    ".csv": "text/csv; charset=utf-8",
    ".geojson": "application/geo+json",
    ".htm": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": _JSON,
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": _TEXT,
    ".webp": "image/webp",
    ".xml": "application/xml",
}
"""Ours, since what Python's own table says depends on the machine."""


class Step(Protocol):
    """One thing to answer with."""

    @property
    def kind(self) -> str:
        """A fixed word: the metric label, and the value of X-Degraded."""
        ...

    @property
    def is_own(self) -> bool:
        """Whether the answer is made here, and not somebody else's."""
        ...

    def is_possible(self, exchange: Exchange) -> bool:
        """Whether the step would be tried. Asks nobody: shadow uses it."""
        ...

    async def answer(self, exchange: Exchange, failure: ProxyError | None, status: int) -> Response | None:
        """The answer; None: this step has nothing. `status` is the upstream's 5xx, 0 when there is a `failure`."""
        ...


def build_steps(
    config: FallbackConfig,
    upstreams: Callable[[str], Handler],
    clock: Callable[[], float] = monotonic,
    wall: Callable[[], float] = time,
) -> list[Step]:
    """The steps in the order written. Files are read here: raises OSError, also for one over MAX_FILE.

    `clock` is monotonic, `wall` Unix time, both in seconds.
    """
    return [_from_cache(step, wall) or _build(step, upstreams, clock) for step in config.steps]


def _from_cache(step: FallbackStep, wall: Callable[[], float]) -> Step | None:
    if step.stale:
        return Stale(wall)
    return LastKnownGood(wall) if step.last_known_good else None


def _build(step: FallbackStep, upstreams: Callable[[str], Handler], clock: Callable[[], float]) -> Step:
    if step.static is not None:
        return _static(step.static)
    if step.file is not None:
        return _file(step.file)
    if step.upstream is not None:
        return OtherUpstream(upstreams(step.upstream), clock)
    if step.null_fields is not None:
        return _null_fields(step.null_fields)
    raise ValueError("a step of a fallback has exactly one kind")


class Fixed:
    """An answer that is the same for everybody, complete in memory."""

    __slots__ = ("_body", "_headers", "_status", "kind")

    is_own = True

    def __init__(self, kind: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.kind = kind
        self._status = status
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._body = body

    def is_possible(self, exchange: Exchange) -> bool:
        """Always."""
        return True

    async def answer(self, exchange: Exchange, failure: ProxyError | None, status: int) -> Response | None:
        """The same again, with a list of fields of its own."""
        return Response(self._status, list(self._headers), self._body)

    def __repr__(self) -> str:
        return f"<Fixed {self.kind} status={self._status} bytes={len(self._body)}>"


class OtherUpstream:
    """Asks another upstream, in what is left of the deadline."""

    __slots__ = ("_clock", "_handler")

    kind = "upstream"
    is_own = False

    def __init__(self, upstream: Handler, clock: Callable[[], float]) -> None:
        self._handler = Total(Attempt(upstream, clock))
        self._clock = clock

    def is_possible(self, exchange: Exchange) -> bool:
        """Whether there is time left, and the body, if there is one, has not been sent to somebody else."""
        body = exchange.request.body
        if body is not None and body.received:
            return False
        return exchange.deadline is None or self._clock() < exchange.deadline

    async def answer(self, exchange: Exchange, failure: ProxyError | None, status: int) -> Response | None:
        """What the other upstream answers. When it fails too, the exchange looks as if it had not been asked."""
        if not self.is_possible(exchange):
            return None
        before = _Traces(exchange)
        try:
            response = await self._handler.handle(exchange)
        except ProxyError as error:
            if not is_failure(error):
                raise
        else:
            if response.status < FIRST_FAILURE_STATUS:
                return response
            response.close()
        before.restore(exchange)
        return None


def is_failure(error: ProxyError) -> bool:
    """Whether an error is about the service, so that something else may answer: neither the client's nor a bug."""
    return error.source is not Source.CLIENT and error.token != InternalError.token


class _Traces:
    """What calling an upstream leaves on an exchange; a failed second call must not hide that of the first."""

    __slots__ = ("_deadline", "_endpoint", "_name", "_seconds", "_status")

    def __init__(self, exchange: Exchange) -> None:
        self._name = exchange.upstream_name
        self._endpoint = exchange.upstream_endpoint
        self._status = exchange.upstream_status
        self._seconds = exchange.upstream_seconds
        self._deadline = exchange.deadline

    def restore(self, exchange: Exchange) -> None:
        """Put everything back."""
        exchange.upstream_name = self._name
        exchange.upstream_endpoint = self._endpoint
        exchange.upstream_status = self._status
        exchange.upstream_seconds = self._seconds
        exchange.deadline = self._deadline


# --- fixed answers ---


def _static(config: StaticFallback) -> Fixed:
    body, content_type = _encoded(config.body)
    headers = dict(config.headers)
    if body and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = content_type
    return Fixed("static", config.status, headers, body)


def _encoded(body: Any) -> tuple[bytes, str]:
    """Text as it is, anything else as JSON, with its type."""
    return (body.encode(), _TEXT) if isinstance(body, str) else (_json(body), _JSON)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _file(config: FileFallback) -> Fixed:
    path = Path(config.path)
    with path.open("rb") as file:
        body = file.read(MAX_FILE + 1)
    if len(body) > MAX_FILE:
        raise OSError(errno.EFBIG, f"larger than {MAX_FILE} bytes", str(path))
    content_type = config.content_type or _CONTENT_TYPES.get(path.suffix.lower(), "application/octet-stream")
    return Fixed("file", config.status, {"Content-Type": content_type}, body)


def _null_fields(names: Sequence[str]) -> Fixed:
    body = _json({**dict.fromkeys(names), "degraded": True})
    return Fixed("null_fields", 200, {"Content-Type": _JSON}, body)
