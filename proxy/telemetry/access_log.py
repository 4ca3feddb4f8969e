"""The access log: one JSON object a line, one line a request. docs/observability.md lists the fields."""

import re
import time
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import quote

import orjson
from multidict import istr

from proxy.errors import ProxyError
from proxy.exchange import Exchange, Request
from proxy.telemetry.events import Decision
from proxy.telemetry.instruments import error_labels, timeout_kind
from proxy.telemetry.line_writer import LineWriter

_NO_UPSTREAM = '"upstream":"","endpoint":"","upstream_status":0,"upstream_ms":0.0,"attempts":0'
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
        request = exchange.request
        said = request.logged
        if not said:
            said = request.logged = _said_by(request)
        # Put together by hand, from pieces that are JSON already: this is done for every request.
        line = (
            f'{{"time":"{self._timestamp(exchange.wall_started)}","request_id":{_id(exchange.request_id)},'
            f'"client_ip":{_text(exchange.client_ip)},"route":{_text(exchange.route.name)},{said},"status":{status},'
            f'"duration_ms":{int(seconds * 1e6) / 1e3},"bytes_in":{exchange.bytes_in},"bytes_out":{exchange.bytes_out},'
            f"{_upstream(exchange)}{_further(exchange)}}}\n"
        )
        self._writer.write(line.encode())

    def reopen(self) -> None:
        """Go on in a new file of the same name."""
        self._writer.reopen()

    def close(self) -> None:
        """Write what is pending, within a second."""
        self._writer.close()

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


@lru_cache(maxsize=4096)
def _text(text: str) -> str:
    """A JSON string. Few are told from each other here: names of the configuration, and the clients of late."""
    return orjson.dumps(printable(text, _MAX_TEXT)).decode()


def _id(text: str) -> str:
    """A JSON string; nearly all are hex digits, and no two are the same."""
    return f'"{text}"' if text.isalnum() and text.isascii() else _text(text)


def _upstream(exchange: Exchange) -> str:
    if not (exchange.attempt or exchange.upstream_name):
        return _NO_UPSTREAM
    return (
        f'"upstream":{_text(exchange.upstream_name)},"endpoint":{_text(exchange.upstream_endpoint)},'
        f'"upstream_status":{exchange.upstream_status},"upstream_ms":{int(exchange.upstream_seconds * 1e6) / 1e3},'
        f'"attempts":{exchange.attempt}'
    )


def _said_by(request: Request) -> str:
    """The members that come from the client, as JSON without braces."""
    fields = {
        "method": request.method if request.method in _METHODS else "other",
        "path": printable(request.path, _MAX_PATH),
        "user_agent": printable(request.headers.get(_USER_AGENT, ""), _MAX_TEXT),
    }
    if match := _TRACE_ID.match(request.headers.get(_TRACEPARENT, "")):
        fields["trace_id"] = match[1]
    return orjson.dumps(fields)[1:-1].decode()


def _further(exchange: Exchange) -> str:
    """The members that few exchanges have, with a comma before each."""
    if exchange.decisions is None and exchange.error is None and not exchange.received_deadline:
        return f',"cache":"{exchange.cache_outcome}"' if exchange.cache_outcome else ""
    fields: dict[str, Any] = {}
    if exchange.cache_outcome:
        fields["cache"] = exchange.cache_outcome
    if exchange.received_deadline and exchange.deadline is not None:
        fields["deadline_ms"] = int((exchange.deadline - exchange.started) * 1e3)
    if exchange.decisions is not None:
        fields["decisions"] = [_decision_fields(decision) for decision in exchange.decisions]
    if exchange.error is not None:
        _add_error(fields, exchange.error)
    return f",{orjson.dumps(fields)[1:-1].decode()}" if fields else ""


def _decision_fields(decision: Decision) -> dict[str, str]:
    fields = {"policy": decision.policy, "decision": decision.decision, "mode": decision.mode}
    if decision.detail:
        fields["detail"] = printable(decision.detail, _MAX_TEXT)
    return fields


def _add_error(fields: dict[str, Any], error: Exception) -> None:
    fields["error_source"], fields["error"] = error_labels(error)
    if (kind := timeout_kind(error)) is not None:
        fields["timeout"] = kind
    if isinstance(error, ProxyError) and error.cause:
        fields["cause"] = printable(error.cause, _MAX_TEXT)
