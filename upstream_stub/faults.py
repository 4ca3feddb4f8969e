"""Faults on demand: what they are called, and the rules that say which requests meet one.

A fault is written as a comma-separated list, in the header `X-Stub-Fault` or in a rule:
`delay=250ms` `status=503` `drip=20ms` `truncate` `reset` `hang`. docs/stub.md describes each.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_DURATION = re.compile(r"([0-9]{1,6})(ms|s)", re.ASCII)
_STATUS = re.compile(r"[2-5][0-9]{2}", re.ASCII)
MAX_SECONDS = 600.0
MAX_RULES = 100


class BadFault(ValueError):
    """A fault or a rule that cannot be understood; its text says why without quoting what was sent."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one response; durations are seconds."""

    text: str
    """As it was written."""
    delay: float = 0.0
    status: int | None = None
    drip: float | None = None
    truncate: bool = False
    reset: bool = False
    hang: bool = False

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """The fault that `text` describes. Raises BadFault."""
        values: dict[str, Any] = {}
        for part in text.split(","):
            name, equals, value = part.strip().partition("=")
            parser = _PARSERS.get(name, _unknown) if equals else _FLAGS.get(name, _unknown)
            if name in values:
                raise BadFault("each fault can be named once")
            values[name] = parser(value)
        return cls(", ".join(part.strip() for part in text.split(",")), **values)


def _duration(text: str) -> float:
    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * (0.001 if match[2] == "ms" else 1.0) if match else MAX_SECONDS + 1
    if seconds > MAX_SECONDS:
        raise BadFault("a duration is a whole number of ms or s, up to ten minutes")
    return seconds


def _status(text: str) -> int:
    if not _STATUS.fullmatch(text):
        raise BadFault("a status is a number from 200 to 599")
    return int(text)


def _flag(_text: str) -> bool:
    return True


def _unknown(_text: str) -> Any:
    raise BadFault("a fault is one of delay=TIME, status=CODE, drip=TIME, truncate, reset, hang")


_PARSERS: dict[str, Callable[[str], Any]] = {"delay": _duration, "drip": _duration, "status": _status}
_FLAGS: dict[str, Callable[[str], Any]] = {"truncate": _flag, "reset": _flag, "hang": _flag}


@dataclass(slots=True)
class Rule:
    """A fault for the paths at and below `path`, for a share of the requests, for so many, until a time."""

    path: str
    fault: Fault
    probability: float = 1.0
    remaining: int | None = None
    expires_at: float | None = None

    def covers(self, path: str) -> bool:
        """Whether `path` is the rule's path or lies below it."""
        return path == self.path or path.startswith(self.path.rstrip("/") + "/")


class FaultRules:
    """The rules in force, one for a path; where several cover a request, the longest path counts."""

    def __init__(self, clock: Callable[[], float], random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._rules: dict[str, Rule] = {}

    def put(self, rule: Rule) -> None:
        """Adds `rule`, in place of one for the same path. Raises BadFault when there are too many."""
        self._drop_spent()
        if rule.path not in self._rules and len(self._rules) >= MAX_RULES:
            raise BadFault(f"there cannot be more than {MAX_RULES} rules")
        self._rules[rule.path] = rule

    def clear(self) -> None:
        """Removes all rules."""
        self._rules.clear()

    def choose(self, path: str) -> Fault | None:
        """The fault for a request to `path`, counted as used; None for almost all requests."""
        if not self._rules:
            return None
        self._drop_spent()
        rule = max((rule for rule in self._rules.values() if rule.covers(path)), key=_length, default=None)
        if rule is None or self._random() >= rule.probability:
            return None
        if rule.remaining is not None:
            rule.remaining -= 1
        return rule.fault

    def snapshot(self) -> list[dict[str, Any]]:
        """The rules as they are shown: `expires_in` is the seconds left."""
        self._drop_spent()
        now = self._clock()
        return [
            {
                "path": rule.path,
                "fault": rule.fault.text,
                "probability": rule.probability,
                "count": rule.remaining,
                "expires_in": None if rule.expires_at is None else round(rule.expires_at - now, 3),
            }
            for rule in self._rules.values()
        ]

    def _drop_spent(self) -> None:
        now = self._clock()
        self._rules = {
            path: rule
            for path, rule in self._rules.items()
            if rule.remaining != 0 and (rule.expires_at is None or rule.expires_at > now)
        }


def _length(rule: Rule) -> int:
    return len(rule.path)
