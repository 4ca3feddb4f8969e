"""The process's own log: JSON lines on stderr that never block the event loop and cannot be flooded."""

import logging
import time
from collections.abc import Callable
from typing import Any

import orjson

from proxy.telemetry.line_writer import LineWriter

_LINES_PER_WINDOW = 10
_WINDOW = 10.0
_MAX_TEXT = 4096
_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "suppressed"}


def setup_logging(level: str = "INFO", target: str = "stderr") -> logging.Handler:
    """Send everything that is logged in the process to `target`; closing the handler writes what is pending."""
    handler = LineHandler(LineWriter(target, warns=False))
    handler.setFormatter(JsonFormatter())
    handler.addFilter(FloodFilter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    return handler


class LineHandler(logging.Handler):
    """Hands formatted records to a LineWriter."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line."""
        try:
            self._writer.write(self.format(record).encode() + b"\n")
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what is pending, within a second."""
        self._writer.close()
        super().close()


class JsonFormatter(logging.Formatter):
    """One JSON object a record; what was passed as `extra` becomes fields of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON text."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _bounded(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _RESERVED:
                fields[name] = _bounded(value) if isinstance(value, str) else value
        if suppressed := getattr(record, "suppressed", 0):
            fields["suppressed"] = suppressed
        if record.exc_info:
            fields["exception"] = _bounded(self.formatException(record.exc_info))
        return orjson.dumps(fields, default=_as_text).decode()


class FloodFilter(logging.Filter):
    """Lets ten records of one log statement pass in ten seconds; the next one after that says how many were not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[tuple[str, int], _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record may pass."""
        # The statement's place, not its text: there are only so many of them, whatever clients send.
        window = self._windows.setdefault((record.pathname, record.lineno), _Window())
        now = self._clock()
        if now >= window.end:
            record.suppressed = window.suppressed
            window.end, window.passed, window.suppressed = now + _WINDOW, 0, 0
        if window.passed == _LINES_PER_WINDOW:
            window.suppressed += 1
            return False
        window.passed += 1
        return True


class _Window:
    """What one log statement has said of late."""

    __slots__ = ("end", "passed", "suppressed")

    def __init__(self) -> None:
        self.end = 0.0
        self.passed = 0
        self.suppressed = 0


def _bounded(text: str) -> str:
    """At most 4096 characters, the end being what matters in a traceback; without surrogates."""
    return text[-_MAX_TEXT:].encode("utf-8", "backslashreplace").decode()


def _as_text(value: object) -> str:
    return _bounded(str(value))
