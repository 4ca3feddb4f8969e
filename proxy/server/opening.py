"""From a parsed message to an Exchange and the handler that answers it."""

from collections.abc import Callable
from time import monotonic, time

from proxy.config.model import RouteConfig
from proxy.errors import ContentTooLarge, LoopDetected, ProxyError
from proxy.exchange import Exchange, Handler, RawHeaders, Request
from proxy.protocol.deadline import parse_deadline_ms
from proxy.protocol.fields import DEADLINE_FIELD, INTERNAL, REQUEST_ID_FIELD, VIA
from proxy.protocol.forwarded import Forwarding, find_request_id, request_id
from proxy.protocol.headers import seen_loop, via_received
from proxy.protocol.request_checks import Checked, check_authority, check_request
from proxy.resilience.deadline import total_deadline
from proxy.runtime import UNMATCHED_ROUTE, Runtime
from proxy.server.connection import Connection, IncomingRequest
from proxy.server.request_body import ClientBody


class Opener:
    """Opens exchanges for one edge. `pseudonym` is our name in Via."""

    def __init__(self, random_bytes: Callable[[int], bytes], pseudonym: bytes) -> None:
        self._random_bytes = random_bytes
        self._pseudonym = pseudonym
        self._via = {version: (b"Via", via_received(version, pseudonym)) for version in ((1, 0), (1, 1))}

    def open(self, runtime: Runtime, incoming: IncomingRequest) -> tuple[Exchange, Handler]:
        """Check the message and find its route; what is refused comes with the handler that says so."""
        message = incoming.message
        limits = runtime.config.server.limits
        try:
            checked = check_request(
                message.method, message.path, message.version, message.raw_headers, max_head=limits.max_head
            )
            check_authority(checked.host, runtime.hosts)
            if checked.kinds & VIA and seen_loop(message.raw_headers, self._pseudonym):
                raise LoopDetected
            request = self._request(incoming, checked, runtime)
            if checked.target == "*":
                exchange = self._exchange(runtime, incoming, request, UNMATCHED_ROUTE, checked)
                return exchange, runtime.about_itself
            match = runtime.router.match(message.method, request.path)
        except ProxyError as error:
            return self.refusal(runtime, incoming, error)
        exchange = self._exchange(runtime, incoming, request, match.route, checked)
        exchange.params = match.params
        return exchange, match.target

    def refusal(self, runtime: Runtime, incoming: IncomingRequest, error: ProxyError) -> tuple[Exchange, Handler]:
        """An exchange that ends with `error`. Of a message that failed the checks only the plainest parts are used."""
        message = incoming.message
        version = (1, 0) if message.version == (1, 0) else (1, 1)
        request = Request(message.method, message.path, (), message.headers, version=version)
        exchange = Exchange(request, UNMATCHED_ROUTE, monotonic())
        exchange.wall_started = time()
        forwarding = _forwarding(runtime, incoming.connection)
        exchange.client_ip, exchange.scheme, _ = forwarding.identify("", message.raw_headers)
        exchange.request_id = request_id(None, trusted=False, random_bytes=self._random_bytes)
        exchange.error = error
        return exchange, runtime.unmatched

    def _request(self, incoming: IncomingRequest, checked: Checked, runtime: Runtime) -> Request:
        message, connection = incoming.message, incoming.connection
        body = None
        if checked.content_length is not None or checked.chunked:
            body = connection.body = _body(incoming, checked, runtime)
        return Request(
            message.method,
            checked.target,
            message.raw_headers,
            message.headers,
            authority=checked.host,
            body=body,
            version=message.version,
            upgrade=connection.has_upgraded,
        )

    def _exchange(
        self, runtime: Runtime, incoming: IncomingRequest, request: Request, route: RouteConfig, checked: Checked
    ) -> Exchange:
        exchange = Exchange(request, route, monotonic())
        exchange.wall_started = time()
        connection = incoming.connection
        forwarding = _forwarding(runtime, connection)
        exchange.client_ip, exchange.scheme, forwarded = forwarding.identify(checked.host, request.raw_headers)
        total = route.timeout.total
        if forwarding.is_trusted and checked.kinds & INTERNAL:
            self._believe(exchange, request.raw_headers, total)
        else:
            exchange.request_id = self._random_bytes(16).hex()
            exchange.deadline = None if total is None else exchange.started + total
        exchange.forwarded = (
            *forwarded,
            (REQUEST_ID_FIELD, exchange.request_id.encode()),
            self._via[request.version],
        )
        exchange.watchdog = connection.watchdog
        return exchange

    def _believe(self, exchange: Exchange, raw_headers: RawHeaders, total: float | None) -> None:
        """Take over what a trusted peer says about the exchange: its id, and how long its caller will wait."""
        exchange.request_id = request_id(find_request_id(raw_headers), trusted=True, random_bytes=self._random_bytes)
        remaining = _received_deadline(raw_headers)
        exchange.deadline = total_deadline(exchange.started, total, remaining)
        exchange.received_deadline = remaining is not None


def _body(incoming: IncomingRequest, checked: Checked, runtime: Runtime) -> ClientBody:
    limits = runtime.config.server.limits
    connection = incoming.connection
    length = checked.content_length
    body = ClientBody(
        incoming.payload,
        connection.body_stall,
        monotonic,
        content_length=length,
        limit=limits.max_body,
        timeout=limits.body_timeout,
        transport=connection.transport if checked.expect_continue else None,
    )
    connection.body = body
    if limits.max_body is not None and length is not None and length > limits.max_body:
        raise ContentTooLarge(f"The request body is larger than {limits.max_body} bytes.")
    return body


def _forwarding(runtime: Runtime, connection: Connection) -> Forwarding:
    """What is known about the connection's peer; worked out again after a reload."""
    known = connection.forwarding
    if known is None or connection.clients is not runtime.clients:
        known = connection.forwarding = Forwarding(runtime.clients, connection.peer, "http")
        connection.clients = runtime.clients
    return known


def _received_deadline(raw_headers: RawHeaders) -> float | None:
    lowered = DEADLINE_FIELD.lower()
    return next((parse_deadline_ms(value) for name, value in raw_headers if name.lower() == lowered), None)
