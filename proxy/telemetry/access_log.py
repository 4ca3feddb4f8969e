"""The access log: one JSON object a line, one line a request. docs/observability.md lists the fields."""

import re
import time
from typing import Any, Protocol
from urllib.parse import quote

import orjson
from multidict import istr

from proxy.errors import ProxyError
from proxy.exchange import Exchange
from proxy.telemetry.events import Decision
from proxy.telemetry.instruments import error_labels, timeout_kind
from proxy.telemetry.line_writer import LineWriter

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_MAX_PATH = 2048
_MAX_TEXT = 256
_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))
_USER_AGENT = istr("User-Agent")
_TRACEPARENT = istr("traceparent")
_TRACE_ID = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-", re.ASCII)


class AccessLog(Protocol):
    """Where the record of each request goes."""

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        ...

    def record(self, exchange: Exchange, status: int, seconds: float) -> None:
        """Note a request that has ended. Never waits, never raises."""
        ...

    def reopen(self) -> None:
        """Go on in a new file of the same name."""
        ...

    def close(self) -> None:
        """Write what is pending, within a second."""
        ...


def open_access_log(target: str | None) -> AccessLog:
    """The log that writes to `stdout`, `stderr` or a file; None: no log. Raises OSError."""
    return NoAccessLog() if target is None else JsonAccessLog(LineWriter(target))


class CurrentAccessLog:
    """The log in force. A reload may put another in its place: a request is noted in the one it finds at its end."""

    def __init__(self, log: AccessLog) -> None:
        self._log = log
        self.record = log.record

    def replace(self, log: AccessLog) -> AccessLog:
        """Record in `log` from now on; the one before is returned, for the caller to close."""
        before, self._log = self._log, log
        self.record = log.record
        return before

    @property
    def dropped(self) -> int:
        """Lines that the log in force has lost so far."""
        return self._log.dropped

    def reopen(self) -> None:
        """Go on in a new file of the same name."""
        self._log.reopen()

    def close(self) -> None:
        """Write what is pending, within a second."""
        self._log.close()


class NoAccessLog:
    """`access_log: off`."""

    dropped = 0

    def record(self, exchange: Exchange, status: int, seconds: float) -> None:
        """Do nothing."""

    def reopen(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class JsonAccessLog:
    """Turns exchanges into lines and hands them to a writer."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer
        self._second = -1
        self._second_text = ""

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        return self._writer.dropped

    def record(self, exchange: Exchange, status: int, seconds: float) -> None:
        """Write the exchange's line."""
        self._writer.write(_encode(self._fields(exchange, status, seconds)))

    def reopen(self) -> None:
        """Go on in a new file of the same name."""
        self._writer.reopen()

    def close(self) -> None:
        """Write what is pending, within a second."""
        self._writer.close()

    def _fields(self, exchange: Exchange, status: int, seconds: float) -> dict[str, Any]:
        request = exchange.request
        fields: dict[str, Any] = {
            "time": self._timestamp(exchange.wall_started),
            "request_id": exchange.request_id,
            "client_ip": exchange.client_ip,
            "route": exchange.route.name,
            "method": request.method if request.method in _METHODS else "other",
            "path": printable(request.path, _MAX_PATH),
            "status": status,
            "duration_ms": int(seconds * 1e6) / 1e3,
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
            "upstream": exchange.upstream_name,
            "endpoint": exchange.upstream_endpoint,
            "upstream_status": exchange.upstream_status,
            "upstream_ms": int(exchange.upstream_seconds * 1e6) / 1e3,
            "attempts": exchange.attempt,
            "user_agent": printable(request.headers.get(_USER_AGENT, ""), _MAX_TEXT),
        }
        if exchange.cache_outcome:
            fields["cache"] = exchange.cache_outcome
        if traceparent := request.headers.get(_TRACEPARENT):
            _add_trace(fields, traceparent)
        if exchange.received_deadline:
            _add_deadline(fields, exchange)
        if exchange.decisions is not None:
            fields["decisions"] = [_decision_fields(decision) for decision in exchange.decisions]
        if exchange.error is not None:
            _add_error(fields, exchange.error)
        return fields

    def _timestamp(self, wall: float) -> str:
        second = int(wall)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._second_text + _MILLISECONDS[int((wall - second) * 1000)]


def printable(text: str, limit: int) -> str:
    """Client text for a log: at most `limit` characters, with control, format and undecodable ones as %XX."""
    if len(text) > limit:
        text = text[:limit]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _percent(char) for char in text)


def _percent(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, kept by surrogateescape
        return f"%{code - 0xDC00:02X}"
    return quote(char.encode("utf-8", "surrogatepass"), safe="")


def _add_trace(fields: dict[str, Any], traceparent: str) -> None:
    if match := _TRACE_ID.match(traceparent):
        fields["trace_id"] = match[1]


def _add_deadline(fields: dict[str, Any], exchange: Exchange) -> None:
    if exchange.deadline is not None:
        fields["deadline_ms"] = int((exchange.deadline - exchange.started) * 1e3)


def _decision_fields(decision: Decision) -> dict[str, str]:
    fields = {"policy": decision.policy, "decision": decision.decision, "mode": decision.mode}
    if decision.detail:
        fields["detail"] = decision.detail
    return fields


def _add_error(fields: dict[str, Any], error: Exception) -> None:
    fields["error_source"], fields["error"] = error_labels(error)
    if (kind := timeout_kind(error)) is not None:
        fields["timeout"] = kind
    if isinstance(error, ProxyError) and error.cause:
        fields["cause"] = printable(error.cause, _MAX_TEXT)


def _encode(fields: dict[str, Any]) -> bytes:
    try:
        line = orjson.dumps(fields)
    except TypeError:  # surrogates where the edge should have let none through
        safe = {key: printable(value, _MAX_TEXT) if isinstance(value, str) else value for key, value in fields.items()}
        line = orjson.dumps(safe)
    # Adding makes a copy of the right size: orjson's own buffers, kept until the next flush, cost two page faults each.
    return line + b"\n"
