"""From a parsed message to an Exchange and the handler that answers it."""

from collections.abc import Callable
from time import monotonic, time

from proxy.config.model import RouteConfig
from proxy.errors import ContentTooLarge, LoopDetected, Overloaded, ProxyError
from proxy.exchange import Exchange, Handler, Request
from proxy.protocol.criticality import parse_attempt, parse_criticality
from proxy.protocol.deadline import parse_deadline_ms
from proxy.protocol.fields import (
    ATTEMPT_FIELD,
    CRITICALITY_FIELD,
    DEADLINE_FIELD,
    FRAMING,
    INTERNAL,
    KINDS,
    REQUEST_ID_FIELD,
    VIA,
)
from proxy.protocol.forwarded import Forwarding, request_id
from proxy.protocol.headers import RawHeaders, seen_loop, via_received
from proxy.protocol.request_checks import Checked, CheckedFields, check_authority, check_request
from proxy.resilience.deadline import total_deadline
from proxy.resilience.shedding import Shedder
from proxy.routing.router import Match
from proxy.runtime import UNMATCHED_ROUTE, Runtime
from proxy.server.connection import Connection
from proxy.server.incoming import IncomingRequest
from proxy.server.request_body import ClientBody
from proxy.telemetry.events import Decision
from proxy.telemetry.instruments import ServerMetrics

_REQUEST_ID = REQUEST_ID_FIELD.lower()
_DEADLINE = DEADLINE_FIELD.lower()
_ATTEMPT = ATTEMPT_FIELD.lower()
_CRITICALITY = CRITICALITY_FIELD.lower()
_SHED = Decision("edge", "shed")
_OVERLOADED = "More requests arrive than this process can handle."


class Opener:
    """Opens exchanges for one edge. `pseudonym` is our name in Via."""

    def __init__(
        self, random_bytes: Callable[[int], bytes], pseudonym: bytes, shedder: Shedder, metrics: ServerMetrics
    ) -> None:
        self._random_bytes = random_bytes
        self._shedder = shedder
        self._metrics = metrics
        self._pseudonym = pseudonym
        self._via = {version: (b"Via", via_received(version, pseudonym)) for version in ((1, 0), (1, 1))}

    def open(self, runtime: Runtime, incoming: IncomingRequest) -> tuple[Exchange, Handler]:
        """Check the message and find its route; what is refused comes with the handler that says so."""
        message, connection, known = incoming.message, incoming.connection, incoming.known
        if known is not None and known.runtime is runtime:
            return self._opened(runtime, connection, known.request, known.match)
        method, version = message.method, message.version
        try:
            checked = check_request(
                method, message.path, version, message.raw_headers, runtime.max_head, connection.fields
            )
            fields = connection.fields = checked.fields
            # First of all, since a body that nobody reads decides whether the connection can go on.
            body = _body(incoming, checked, runtime) if fields.kinds & FRAMING else None
            if runtime.hosts:
                check_authority(checked.host, runtime.hosts)
            if fields.kinds & VIA and seen_loop(fields.raw, self._pseudonym):
                raise LoopDetected
            upgrade = connection.has_upgraded
            request = Request(method, checked.target, fields, message.headers, checked.host, body, version, upgrade)
            if checked.target == "*":
                return self._exchange(runtime, connection, request, UNMATCHED_ROUTE), runtime.about_itself
            match = runtime.router.match(method, request.path)
        except ProxyError as error:
            return self.refusal(runtime, incoming, error)
        if known is not None and not (fields.kinds & FRAMING or upgrade):
            known.request, known.match, known.runtime = request, match, runtime
        return self._opened(runtime, connection, request, match)

    def _opened(
        self, runtime: Runtime, connection: Connection, request: Request, match: Match[Handler]
    ) -> tuple[Exchange, Handler]:
        exchange = self._exchange(runtime, connection, request, match.route)
        if self._shedder.level and self._shedder.sheds(exchange.criticality):
            return self._shed(runtime, exchange)
        exchange.params = match.params
        return exchange, match.target

    def _shed(self, runtime: Runtime, exchange: Exchange) -> tuple[Exchange, Handler]:
        """Nothing but the route and the criticality has been looked at: a refusal has to be cheap."""
        exchange.error = Overloaded(_OVERLOADED, retry_after=self._shedder.retry_after())
        exchange.decide(_SHED)
        self._metrics.shed[exchange.criticality] += 1
        return exchange, runtime.refusing[exchange.route.name]

    def refusal(self, runtime: Runtime, incoming: IncomingRequest, error: ProxyError) -> tuple[Exchange, Handler]:
        """An exchange that ends with `error`. Of a message that failed the checks only the plainest parts are used."""
        message = incoming.message
        version = (1, 0) if message.version == (1, 0) else (1, 1)
        target = _without_authority(message.path)
        request = Request(message.method, target, CheckedFields(()), message.headers, version=version)
        exchange = Exchange(request, UNMATCHED_ROUTE, monotonic())
        exchange.wall_started = time()
        forwarding = _forwarding(runtime, incoming.connection)
        exchange.client_ip, exchange.scheme, _ = forwarding.identify("", message.raw_headers)
        exchange.request_id = request_id(None, trusted=False, random_bytes=self._random_bytes)
        exchange.error = error
        return exchange, runtime.unmatched

    def _exchange(self, runtime: Runtime, connection: Connection, request: Request, route: RouteConfig) -> Exchange:
        exchange = Exchange(request, route, monotonic())
        exchange.wall_started = time()
        exchange.criticality = route.criticality
        fields = request.fields
        forwarding = connection.forwarding
        if forwarding is None or connection.clients is not runtime.clients:
            forwarding = _forwarding(runtime, connection)
        exchange.client_ip, exchange.scheme, forwarded = forwarding.identify(request.authority, fields.raw)
        total = route.timeout.total
        if forwarding.is_trusted and fields.kinds & INTERNAL:
            self._believe(exchange, fields.raw, total)
        else:
            exchange.request_id = self._random_bytes(16).hex()
            exchange.deadline = None if total is None else exchange.started + total
        exchange.forwarded = connection.with_via(forwarded, self._via[request.version])
        exchange.watchdog = connection.watchdog
        exchange.client = connection
        return exchange

    def _believe(self, exchange: Exchange, raw_headers: RawHeaders, total: float | None) -> None:
        """Take over what a trusted peer says: id, importance, which attempt it is, how long the caller will wait."""
        said = _internal_fields(raw_headers)
        exchange.request_id = request_id(said.get(_REQUEST_ID), trusted=True, random_bytes=self._random_bytes)
        exchange.criticality = parse_criticality(said.get(_CRITICALITY, b"")) or exchange.criticality
        exchange.received_attempt = parse_attempt(said.get(_ATTEMPT, b""))
        remaining = parse_deadline_ms(said.get(_DEADLINE, b""))
        exchange.deadline = total_deadline(exchange.started, total, remaining)
        if remaining is not None:
            exchange.received_deadline = True
            exchange.caller_deadline = exchange.started + remaining


def _body(incoming: IncomingRequest, checked: Checked, runtime: Runtime) -> ClientBody:
    limits = runtime.config.server.limits
    connection = incoming.connection
    length = checked.fields.content_length
    body = ClientBody(
        incoming.payload,
        connection.body_stall,
        monotonic,
        content_length=length,
        limit=limits.max_body,
        timeout=limits.body_timeout,
        transport=connection.transport if checked.expect_continue else None,
    )
    connection.begin_body(body)
    if limits.max_body is not None and length is not None and length > limits.max_body:
        raise ContentTooLarge(f"The request body is larger than {limits.max_body} bytes.")
    return body


def _forwarding(runtime: Runtime, connection: Connection) -> Forwarding:
    """What is known about the connection's peer; worked out at its first request, and again after a reload."""
    connection.clients = runtime.clients
    connection.forwarding = forwarding = Forwarding(runtime.clients, connection.peer, "http")
    return forwarding


def _without_authority(target: str) -> str:
    """A target for the log alone: an authority may hold a password."""
    return target if target[:1] == "/" else "/" + target.partition("://")[2].partition("/")[2]


def _internal_fields(raw_headers: RawHeaders) -> dict[bytes, bytes]:
    """What the peer says in internal fields, by name in lower case; the first of each counts."""
    said: dict[bytes, bytes] = {}
    for name, value in raw_headers:
        if KINDS[name] & INTERNAL:
            said.setdefault(name.lower(), value)
    return said
