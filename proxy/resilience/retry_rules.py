"""Which outcomes of an attempt are worth another one: by what went wrong, and by what was asked for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from proxy.errors import (
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    DnsError,
    DnsTimeout,
    ProxyError,
    ResponseIncomplete,
    TlsError,
    Unroutable,
    UpstreamTimeout,
)

if TYPE_CHECKING:
    from proxy.config.policies import RetryConfig
    from proxy.exchange import Request

_CAUSES: Final[Mapping[type[ProxyError], str]] = {
    **dict.fromkeys((DnsError, DnsTimeout, ConnectionRefused, Unroutable, ConnectionTimeout, TlsError), "connect"),
    **dict.fromkeys((ConnectionTerminated, ResponseIncomplete), "reset"),
    UpstreamTimeout: "timeout",
}
"""The words of `retry_on` that stand for errors. No refusal of ours is among them."""
_NEED_A_KEY: Final = frozenset({"POST", "PATCH"})
"""Methods whose sender has to say, by an Idempotency-Key, that two are as good as one."""


class RetryRules:
    """`retry_on` and `methods` of one route. A cause is a word or a status as text; "" is none."""

    __slots__ = ("_causes", "_methods", "statuses")

    def __init__(self, config: "RetryConfig") -> None:
        self.statuses = frozenset(each for each in config.retry_on if isinstance(each, int))
        self._causes = frozenset(each for each in config.retry_on if isinstance(each, str))
        self._methods = frozenset(config.methods)

    def cause_of_status(self, status: int, request: "Request") -> str:
        """Why a request that was answered with `status` may be sent again."""
        return str(status) if status in self.statuses and self._may_be_repeated(request) else ""

    def cause_of_error(self, error: ProxyError, request: "Request") -> str:
        """Why a request that ended with `error` may be sent again. The total deadline leaves no time for that."""
        cause = _CAUSES.get(type(error), "")
        if cause not in self._causes or not error.retryable:
            return ""
        if isinstance(error, UpstreamTimeout) and error.kind == "total":
            return ""
        return cause if not error.request_written or self._may_be_repeated(request) else ""

    def _may_be_repeated(self, request: "Request") -> bool:
        """Whether the upstream may get the request twice (RFC 9110 section 9.2.2)."""
        if request.upgrade or request.method not in self._methods:
            return False
        return request.method not in _NEED_A_KEY or bool(request.headers.get("Idempotency-Key"))
