"""The nouns of the data path: Request, Response, Exchange, and the one verb, `Handler.handle`."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from proxy.protocol.headers import RawHeaders
from proxy.protocol.request_checks import CheckedFields

if TYPE_CHECKING:
    from proxy.config.model import RouteConfig
    from proxy.config.policies import Criticality, TimeoutConfig
    from proxy.protocol.caching.stored import StoredResponse
    from proxy.protocol.encoded import Encoded
    from proxy.telemetry.events import Decision
    from proxy.watchdog import Watchdog


class Body(Protocol):
    """A body that arrives in pieces; reading applies backpressure to its sender."""

    async def read(self) -> bytes:
        """The next piece, b"" once after the last.

        Raises ProxyError when the body cannot be completed: what was read so far must not pass for the whole.
        """
        ...


class RequestBody(Body, Protocol):
    """The client's body. The first read admits it: only then is `100 Continue` sent."""

    @property
    def content_length(self) -> int | None:
        """Declared length in bytes; None for chunked."""
        ...

    @property
    def received(self) -> int:
        """Bytes read so far, without framing."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether the last byte has been read from the client."""
        ...


class Request:
    """The client's request as it came, checked but not changed. Paths are text decoded with surrogateescape."""

    __slots__ = (
        "authority",
        "body",
        "fields",
        "headers",
        "logged",
        "method",
        "path",
        "query",
        "target",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        method: str,
        target: str,
        fields: CheckedFields,
        headers: Mapping[str, str],
        authority: str = "",
        body: RequestBody | None = None,
        version: tuple[int, int] = (1, 1),
        upgrade: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        """Origin form, byte for byte: path and query."""
        self.path, mark, query = target.partition("?")
        self.query: str | None = query if mark else None
        self.fields = fields
        """As on the wire."""
        self.headers = headers
        """Case-insensitive view (multidict)."""
        self.authority = authority
        """Effective host and port: of an absolute target, else of Host (RFC 9112 section 3.3)."""
        self.body = body
        """None when the message declares no body."""
        self.version = version
        self.upgrade = upgrade
        """Whether the client asks to switch protocols."""
        self.logged = ""
        """Its part of the line in the access log, worked out once for all exchanges that repeat it."""


class Tunnel(Protocol):
    """The upstream side of a connection that switched protocols (101)."""

    async def read(self) -> bytes:
        """Bytes from the upstream, b"" at its end. Raises ProxyError."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes to the upstream; waits while its buffer is full. Raises ProxyError."""
        ...

    def write_eof(self) -> None:
        """The client sends no more."""
        ...


class Client(Protocol):
    """Who has sent the request and waits for the final response."""

    def interim(self, exchange: "Exchange", status: int, fields: RawHeaders) -> None:
        """Take a 1xx response, end-to-end fields only, before the final one (RFC 9110 section 15.2). Never raises."""
        ...


class Gate(Protocol):
    """Something that lets attempts pass for the time being."""

    def confirm(self, exchange: "Exchange") -> None:
        """Whether it still does. Raises ProxyError when it does not."""
        ...


_NOTHING: frozenset[bytes] = frozenset()


class Response:
    """What travels back up. Whoever discards one must close it.

    `headers` are end-to-end fields in wire order, Content-Length included where it is known; the edge adds the
    hop-by-hop ones. `body` is bytes when complete in memory, else a Body.
    """

    __slots__ = ("_on_close", "body", "encoded", "headers", "is_open_ended", "reason", "status", "tunnel", "withheld")

    def __init__(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        body: "bytes | Body" = b"",
        *,
        reason: bytes = b"",
        tunnel: Tunnel | None = None,
        encoded: "Encoded | None" = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body
        self.tunnel = tunnel
        """Set on a 101: the edge then copies bytes both ways until either side ends."""
        self.encoded = encoded
        """The beginning of the head as bytes; whoever changes the fields it stands for need not mind it."""
        self.is_open_ended = False
        """Whether only the end of the connection ends the body, so that it may be less than the whole."""
        self.withheld: frozenset[bytes] = _NOTHING
        """Names, in lower case, of fields that the edge would add and the route does not want."""
        self._on_close: list[Callable[[], None]] | None = None

    def on_close(self, release: Callable[[], None]) -> None:
        """Have `release` called once when the response is closed, last registered first."""
        if self._on_close is None:
            self._on_close = [release]
        else:
            self._on_close.append(release)

    def close(self) -> None:
        """Give back everything that lives as long as the body. Idempotent; never raises on a half-read body."""
        callbacks, self._on_close = self._on_close, None
        if callbacks is not None:
            for release in reversed(callbacks):
                release()


class Exchange:
    """One request and all that is known about it on its way through the policies.

    Times are `time.monotonic()` seconds. What few exchanges need is a class attribute until it is set.
    """

    wall_started: float = 0.0
    """Unix time, for the log only."""
    params: Mapping[str, str] = {}
    """Path parameters, raw (still percent-encoded)."""
    client_ip: str = ""
    scheme: str = "http"
    request_id: str = ""
    forwarded: RawHeaders = ()
    """Fields that the edge adds for the upstream: the forwarding chain and Via."""
    deadline: float | None = None
    """When the exchange must have ended, body included; None: no total limit, or none any more (event streams)."""
    attempt_deadline: float | None = None
    received_deadline: bool = False
    """Whether `deadline` came from a trusted caller."""
    caller_deadline: float | None = None
    """What a trusted caller said, before the route's own limit."""
    received_attempt: int = 0
    """Which attempt of a trusted caller's this is, from 1; 0: it did not say."""
    criticality: "Criticality" = "default"
    """The route's, or what a trusted caller said."""
    may_queue: bool = True
    """Whether it may wait for a permit: nobody waits for what is done in the background."""
    watchdog: "Watchdog | None" = None
    """Cancels this exchange's task; the edge lends its connection's."""
    client: Client | None = None
    """Who gets the upstream's interim responses; the edge lends its connection."""
    attempt: int = 0
    """Number of the current attempt, from 1; 0 before the first."""
    attempt_started: float = 0.0
    """When the current attempt went to the upstream, permit in hand; 0 while it has not."""
    gate: "Gate | None" = None
    """The breaker that let the current attempt pass; whoever waits asks it once more before going on."""
    ticket: int = 0
    """What the breaker has given for the current attempt."""
    is_internal: bool = False
    """Whether it is a request of our own: nobody's, when it comes to counting what clients get."""
    share: float | None = None
    """Where this client stands in [0, 1) on this route: `enforce_percent` holds for those below it."""
    store_seconds: float = 0.0
    """Time that this exchange has spent waiting for Redis."""
    upstream_name: str = ""
    upstream_endpoint: str = ""
    upstream_status: int = 0
    upstream_seconds: float = 0.0
    bytes_out: int = 0
    error: Exception | None = None
    """The error that ended the exchange, for log and metrics."""
    decisions: "list[Decision] | None" = None
    cache_outcome: str = ""
    """What the cache did: hit, stale, revalidated, miss or bypass; empty without one."""
    stored: "StoredResponse | None" = None
    """What the cache has for this request and may not send; a fallback may."""
    last_good: "StoredResponse | None" = None
    """The last successful response that the cache has seen for this request, outdated or not."""

    def __init__(self, request: Request, route: "RouteConfig", started: float) -> None:
        self.request = request
        self.route = route
        self.timeout: TimeoutConfig = route.timeout
        """The limits in force for this exchange: none of them while the route's are in shadow."""
        self.started = started

    @property
    def bytes_in(self) -> int:
        """Body bytes read from the client."""
        body = self.request.body
        return 0 if body is None else body.received

    def decide(self, decision: "Decision") -> None:
        """Record what a policy decided; it appears in the access log and the metrics."""
        if self.decisions is None:
            self.decisions = [decision]
        else:
            self.decisions.append(decision)


class Handler(Protocol):
    """Anything that answers an exchange: the upstream, or a policy around another handler."""

    async def handle(self, exchange: Exchange) -> Response:
        """Answer, or raise ProxyError. On success the caller owns the response and closes it."""
        ...
