"""Durations and sizes: text with a unit in the file, float seconds and int bytes in code."""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema

from proxy.config.scalar import shown

# --- durations ------------------------------------------------------------------------------------------------------

_DURATION_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
"""Milliseconds, in the order in which they are written."""
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,3})?)"
_DURATION = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:([0-9]{{1,9}})ms)?", re.ASCII)
_MAX_DURATION_MS = 365 * _DURATION_UNITS["d"]
_DURATION_HELP = "write a number and a unit, such as 250ms, 5s, 1m30s, 2h or 1d"


def parse_duration(value: object) -> float:
    """Seconds of `250ms`, `5s`, `1.5s`, `1m30s`, `2h`, `1d`. A bare number, 0 too, has no unit and is refused."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match is None:
        raise ValueError(f"{shown(value)} is not a duration: {_DURATION_HELP}")
    parts = zip(match.groups(), _DURATION_UNITS.values(), strict=True)
    milliseconds = sum(_thousandths(number) * unit // 1000 for number, unit in parts if number)
    if milliseconds > _MAX_DURATION_MS:
        raise ValueError(f"{shown(value)} is too long: the longest duration is 365d")
    return milliseconds / 1000


def _thousandths(number: str) -> int:
    whole, _, fraction = number.partition(".")
    return int(whole) * 1000 + int(fraction.ljust(3, "0"))


def format_duration(seconds: float) -> str:
    """The YAML form of `seconds`, to the millisecond; `parse_duration` reads the same value back."""
    rest = round(seconds * 1000)
    parts = []
    for unit, size in _DURATION_UNITS.items():
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def _read_delay(value: object, info: ValidationInfo) -> object:
    # In code a duration is a number; only in the file does a number lack its unit.
    if not info.context and isinstance(value, int | float):
        return value
    return parse_duration(value)


def _read_duration(value: object, info: ValidationInfo) -> object:
    seconds = _read_delay(value, info)
    if seconds == 0:
        raise ValueError(f"{shown(value)} is no time at all: the shortest duration here is 1ms")
    return seconds


_DURATION_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "pattern": r"^(?=[0-9])([0-9.]+d)?([0-9.]+h)?([0-9.]+m)?([0-9.]+s)?([0-9]+ms)?$",
        "examples": ["250ms", "5s", "1m30s", "2h", "1d"],
    }
)
_PRINTED_DURATION = PlainSerializer(format_duration, return_type=str, when_used="json")

Duration = Annotated[float, BeforeValidator(_read_duration), _PRINTED_DURATION, _DURATION_SCHEMA]
"""Seconds, more than 0."""
Delay = Annotated[float, BeforeValidator(_read_delay), _PRINTED_DURATION, _DURATION_SCHEMA]
"""Seconds, where `0s` means at once."""

# --- sizes ----------------------------------------------------------------------------------------------------------

_SIZE_UNITS = {"GiB": 1 << 30, "GB": 10**9, "MiB": 1 << 20, "MB": 10**6, "KiB": 1 << 10, "KB": 1000, "B": 1}
_SIZE = re.compile(rf"([0-9]{{1,16}})({'|'.join(_SIZE_UNITS)})?", re.ASCII)
_MAX_SIZE = 1 << 50


def parse_size(value: object) -> int:
    """Bytes of `64KiB`, `10MB`, `1GiB` or a whole number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{shown(value)} is not a size: write bytes, or a unit as in 64KiB, 10MB or 1GiB")
        size = int(match[1]) * _SIZE_UNITS[match[2] or "B"]
    if not 1 <= size <= _MAX_SIZE:
        raise ValueError(f"{shown(value)} is out of range: a size is 1 byte to {format_size(_MAX_SIZE)}")
    return size


def format_size(size: int) -> str:
    """The YAML form with the largest unit that divides evenly; `parse_size` reads the same value back."""
    unit = next(unit for unit, factor in _SIZE_UNITS.items() if size % factor == 0)
    return f"{size // _SIZE_UNITS[unit]}{unit}"


ByteSize = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^[0-9]+([KMG]i?B|B)?$", "examples": ["64KiB", "10MB", "1GiB"]},
            ]
        }
    ),
]
"""Bytes, at least 1."""
