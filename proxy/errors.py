"""The ProxyError tree: everything that can go wrong with an exchange, and what the client is told.

Each class fixes the status, the problem type and the RFC 9209 error token; `source` says whose fault it was. Only
`rescue.py` turns an error into a response. Only errors whose source is the upstream count against it.
"""

from enum import StrEnum
from typing import ClassVar


class Source(StrEnum):
    """Whose fault an error is."""

    CLIENT = "client"
    PROXY = "proxy"
    UPSTREAM = "upstream"


class ProxyError(Exception):
    """Base of all errors that rescue turns into a problem response.

    `detail` is shown to the client: it holds neither input bytes nor upstream internals. `cause` is for our own log.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"
    slug: ClassVar[str] = "internal-error"
    token: ClassVar[str] = "proxy_internal_error"
    """Proxy-Status error type, RFC 9209 section 2.3."""
    source: ClassVar[Source] = Source.PROXY
    policy: ClassVar[str] = "tidegate"
    """The layer that refused or failed."""
    retryable: ClassVar[bool] = False
    """Whether another attempt could end differently; the retry policy still decides."""
    closes: ClassVar[bool] = False
    """Whether the client connection cannot be used after the answer."""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    """Further header fields of the answer."""

    def __init__(
        self,
        detail: str = "",
        *,
        cause: str = "",
        retry_after: float | None = None,
        allow: str = "",
        request_written: bool = True,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.cause = cause
        self.retry_after = retry_after
        """Seconds, before rounding."""
        self.allow = allow
        """Value of the Allow field on a 405."""
        self.request_written = request_written
        """False when no byte of the request reached the upstream, so any method may be sent again."""


class InternalError(ProxyError):
    """A bug of ours; the traceback is in the log."""


# --- the client's fault ---------------------------------------------------------------------------------------------


class ClientError(ProxyError):
    """Base of what the client did wrong."""

    status = 400
    title = "Bad Request"
    slug = "bad-request"
    token = "http_request_error"
    source = Source.CLIENT
    policy = "edge"


class BadRequest(ClientError):
    """Malformed framing, head or target: the connection cannot be trusted any more."""

    closes = True


class AmbiguousPath(ClientError):
    """A path that two servers would read as two different routes."""

    title = "Ambiguous Path"
    slug = "ambiguous-path"
    policy = "routing"


class NotFound(ClientError):
    """No route matches."""

    status = 404
    title = "No Route"
    slug = "no-route"
    token = "destination_not_found"
    policy = "routing"


class MethodNotAllowed(ClientError):
    """The path has routes, but none for this method."""

    status = 405
    title = "Method Not Allowed"
    slug = "method-not-allowed"
    policy = "routing"


class MethodRefused(MethodNotAllowed):
    """CONNECT or TRACE, on any path. What follows a CONNECT need not be HTTP."""

    policy = "edge"
    closes = True


class RequestTimeout(ClientError):
    """The client was too slow with its head or body."""

    status = 408
    title = "Request Timeout"
    slug = "request-timeout"
    closes = True


class ContentTooLarge(ClientError):
    """The request body is over `limits.max_body`."""

    status = 413
    title = "Content Too Large"
    slug = "content-too-large"
    closes = True


class UriTooLong(ClientError):
    """The request target is over the line limit."""

    status = 414
    title = "URI Too Long"
    slug = "uri-too-long"
    closes = True


class ExpectationFailed(ClientError):
    """An Expect field other than 100-continue."""

    status = 417
    title = "Expectation Failed"
    slug = "expectation-failed"
    closes = True


class MisdirectedRequest(ClientError):
    """The authority is not one of `server.hosts`."""

    status = 421
    title = "Misdirected Request"
    slug = "misdirected-request"


class RateLimited(ClientError):
    """The client is over one of the route's rate limits."""

    status = 429
    title = "Too Many Requests"
    slug = "rate-limited"
    token = "http_request_denied"
    policy = "rate_limit"


class HeadersTooLarge(ClientError):
    """The request head is over `limits.max_head`, or has too many fields."""

    status = 431
    title = "Request Header Fields Too Large"
    slug = "headers-too-large"
    closes = True


class NotImplementedHere(ClientError):
    """A method or transfer coding that Tidegate does not speak."""

    status = 501
    title = "Not Implemented"
    slug = "not-implemented"
    closes = True


class VersionNotSupported(ClientError):
    """A protocol version other than HTTP/1.0 and HTTP/1.1."""

    status = 505
    title = "HTTP Version Not Supported"
    slug = "version-not-supported"
    closes = True


class ClientDisconnected(ClientError):
    """The client left before its answer was complete. Never sent; 499 stands for it in log and metrics."""

    status = 499
    title = "Client Disconnected"
    slug = "client-disconnected"
    closes = True


# --- our own refusals -----------------------------------------------------------------------------------------------


class ConnectionLimitReached(ProxyError):
    """No free upstream connection within `connect_timeout`; says nothing about the upstream's health."""

    status = 503
    title = "Upstream Connection Limit Reached"
    slug = "connection-limit-reached"
    token = "connection_limit_reached"
    policy = "upstream"


class Overloaded(ProxyError):
    """The process itself has more to do than it can: the edge sheds what is least important."""

    status = 503
    title = "Overloaded"
    slug = "overloaded"
    token = "http_request_denied"
    policy = "edge"
    closes = True


class RateLimitUnavailable(ProxyError):
    """The limit is kept in Redis, which does not answer, and the route says `on_store_error: closed`."""

    status = 503
    title = "Rate Limit Unavailable"
    slug = "rate-limit-unavailable"
    token = "http_request_denied"
    policy = "rate_limit"


class BreakerOpen(ProxyError):
    """The route's breaker leaves the upstream alone for a while."""

    status = 503
    title = "Circuit Breaker Open"
    slug = "breaker-open"
    token = "destination_unavailable"
    policy = "breaker"


class BulkheadFull(ProxyError):
    """As many exchanges as may be are with the upstream, and no place became free in time."""

    status = 503
    title = "Bulkhead Full"
    slug = "bulkhead-full"
    token = "connection_limit_reached"
    policy = "bulkhead"


class CoolingDown(ProxyError):
    """The upstream has asked by Retry-After to be left alone, and that time is not over."""

    status = 503
    title = "Upstream Cooling Down"
    slug = "upstream-cooling-down"
    token = "destination_unavailable"
    policy = "retry"


class NotCached(ProxyError):
    """The client wants a stored response or none (only-if-cached), and there is none (RFC 9111 section 5.2.1.7)."""

    status = 504
    title = "Not Cached"
    slug = "not-cached"
    token = "http_request_denied"
    source = Source.CLIENT
    policy = "cache"


class LoopDetected(ProxyError):
    """The request has passed through this proxy before."""

    status = 502
    title = "Proxy Loop Detected"
    slug = "proxy-loop-detected"
    token = "proxy_loop_detected"


class DeadlineExceeded(ProxyError):
    """The total deadline passed while nothing of ours waited for the upstream."""

    status = 504
    title = "Gateway Timeout"
    slug = "deadline-exceeded"
    token = "http_response_timeout"
    policy = "timeout"


# --- the upstream's fault -------------------------------------------------------------------------------------------


class UpstreamError(ProxyError):
    """Base of what counts against the upstream."""

    status = 502
    title = "Bad Gateway"
    slug = "upstream-error"
    token = "destination_unavailable"
    source = Source.UPSTREAM
    policy = "upstream"
    retryable = True


class DnsError(UpstreamError):
    """The upstream's name has no address."""

    slug = "dns-error"
    token = "dns_error"


class DnsTimeout(UpstreamError):
    """The resolver did not answer within `connect_timeout`."""

    status = 504
    title = "Gateway Timeout"
    slug = "dns-timeout"
    token = "dns_timeout"


class ConnectionRefused(UpstreamError):
    """Nothing listens at the upstream's address, or it answered with a reset."""

    slug = "connection-refused"
    token = "connection_refused"


class Unroutable(UpstreamError):
    """The upstream's address cannot be reached from here."""

    slug = "destination-unroutable"
    token = "destination_ip_unroutable"


class ConnectionTimeout(UpstreamError):
    """No connection within `connect_timeout`."""

    status = 504
    title = "Gateway Timeout"
    slug = "connection-timeout"
    token = "connection_timeout"


class TlsError(UpstreamError):
    """The TLS handshake with the upstream failed."""

    slug = "tls-error"
    token = "tls_protocol_error"


class TlsCertificateError(UpstreamError):
    """The upstream's certificate could not be verified."""

    slug = "tls-certificate-error"
    token = "tls_certificate_error"
    retryable = False


class ConnectionTerminated(UpstreamError):
    """The upstream closed or reset the connection before it answered."""

    slug = "connection-terminated"
    token = "connection_terminated"


class UpstreamProtocolError(UpstreamError):
    """The upstream's bytes are not a valid HTTP/1.1 response."""

    slug = "upstream-protocol-error"
    token = "http_protocol_error"
    retryable = False


class ResponseHeadTooLarge(UpstreamError):
    """The upstream's head is over the limit."""

    slug = "response-head-too-large"
    token = "http_response_header_section_size"
    retryable = False


class ResponseIncomplete(UpstreamError):
    """The upstream's body ended early."""

    slug = "response-incomplete"
    token = "http_response_incomplete"


class CollapsedFailure(UpstreamError):
    """The upstream failed on the request that this one waited for, with a response that is not for both."""

    slug = "upstream-failed"
    token = "destination_unavailable"
    policy = "cache"


_TIMEOUTS = {
    "total": "The response was not complete within the route's total time limit.",
    "attempt": "The upstream's response was not complete within the time limit of an attempt.",
    "first_byte": "The upstream did not send a response head within the route's first_byte limit.",
    "idle": "The upstream sent nothing for longer than the route's idle limit.",
}


class UpstreamTimeout(UpstreamError):
    """The upstream did not answer in time; the work may have happened.

    `kind` names the limit that passed: total, attempt, first_byte or idle.
    """

    status = 504
    title = "Gateway Timeout"
    slug = "upstream-timeout"
    token = "http_response_timeout"
    policy = "timeout"

    def __init__(self, kind: str, detail: str = "", *, request_written: bool = True) -> None:
        super().__init__(detail or _TIMEOUTS[kind], request_written=request_written)
        self.kind = kind
