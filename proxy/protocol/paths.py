"""The ways in which servers may read one path (RFC 3986 sections 3.3, 5.2.4 and 6.2.2).

Tidegate sends a path on as it came. What it decides must hold for whatever server reads it, so a path that is not plain
is looked at in every reading that a common server would make of it.
"""

import re
from collections.abc import Callable
from string import ascii_letters, digits
from typing import Final

from proxy.errors import BadRequest

_LITERAL: Final = ascii_letters + digits + "-._~!$&'()*+,=:@"
"""`pchar` of RFC 3986 less `;`: what stands for itself in a segment, encoded or not, once a server has decoded it."""
_LITERAL_OR_SLASH: Final = (_LITERAL + "/").encode()
_OTHERS_TO_PERCENT: Final = bytes(byte if byte in _LITERAL_OR_SLASH else ord("%") for byte in range(256))

_DECODED: Final = {ord(character): character for character in _LITERAL}
_SEPARATORS: Final = {"%2F": "/", "%3B": ";", "%5C": "\\"}
_KEPT: Final = "|".join(f"{byte:02X}" for byte in range(0x20, 256) if byte not in {*_DECODED, *b"/;\\\x7f"})
"""Escapes that every reading keeps."""
_ODD: Final = re.compile(rf"[^{re.escape(_LITERAL)}/%]|%(?!{_KEPT})|/(?=/|\.\.?(?:/|$))")
_REFUSED: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[\x00-\x1f\x7f]|%[01][0-9A-Fa-f]|%7[Ff]")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNESCAPED: Final = re.compile(rf"[^{re.escape(_LITERAL)}/%;\\]+")
_PARAMETERS: Final = re.compile(r";[^/]*")
_SLASHES: Final = re.compile(r"/{2,}")
_ENCODED_SEPARATOR: Final = re.compile("%2[Ff]|%3[Bb]|%5[Cc]")
_ANY_SEPARATOR: Final = re.compile(r"[/;\\]|%2[Ff]|%3[Bb]|%5[Cc]")

_SHORT: Final = 512
_MAX_SEPARATORS: Final = 128
"""In an odd path that is not short, to bound the work of reading it."""


def is_plain(path: str) -> bool:
    """Whether all servers read `path` alike."""
    if path.isascii():
        raw = path.encode()
        if raw.translate(_OTHERS_TO_PERCENT) == raw and "%" not in path and "//" not in path and "/." not in path:
            return True
    return _ODD.search(path) is None


def readings(path: str) -> list[str]:
    """Every reading of `path`, first as it is: each step of normalisation done or not, always in the same order.

    Escapes are decoded once, as RFC 3986 section 2.4 demands: `%252f` is data in all readings.
    Raises BadRequest for control bytes, plain or encoded, for malformed escapes and for absurdly many segments.
    """
    if _REFUSED.search(path):
        raise BadRequest("The path has a control character or a malformed percent-encoding.")
    if len(path) > _SHORT and len(_ANY_SEPARATOR.findall(path)) > _MAX_SEPARATORS:
        raise BadRequest("The path has too many segments for its spelling.")
    found = list(dict.fromkeys((path, _encode(path))))
    for mark, step in _STEPS:
        if changed := [step(reading) for reading in found if mark in reading]:
            found = list(dict.fromkeys([*found, *changed]))
    return found


def normalised(path: str) -> str:
    """The reading with every step done."""
    path = _encode(path)
    for mark, step in _STEPS:
        if mark in path:
            path = step(path)
    return path


def has_dot_segment(path: str) -> bool:
    """Whether a server may find `.` or `..` among the segments of `path`."""
    path = _strip_parameters(_turn_backslashes(_decode_separators(_decode(path))))
    return not {".", ".."}.isdisjoint(path.split("/"))


def _encode(path: str) -> str:
    """Encode what may not stand in a path (RFC 3986 section 2.1)."""
    return _UNESCAPED.sub(_percent_encoded, path)


def _percent_encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def _decode(path: str) -> str:
    """Decode what stands for itself in a segment, write the other escapes in upper case (RFC 3986 section 6.2.2)."""
    for escape in set(_ESCAPE.findall(path)):
        path = path.replace(f"%{escape}", _DECODED.get(int(escape, 16), f"%{escape.upper()}"))
    return path


def _decode_separators(path: str) -> str:
    return _ENCODED_SEPARATOR.sub(lambda match: _SEPARATORS[match[0].upper()], path)


def _turn_backslashes(path: str) -> str:
    return path.replace("\\", "/")


def _strip_parameters(path: str) -> str:
    return _PARAMETERS.sub("", path)


def _merge_slashes(path: str) -> str:
    return _SLASHES.sub("/", path)


def remove_dot_segments(path: str) -> str:
    """`path`, which begins with a slash, less `.` and `..` (RFC 3986 section 5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


_STEPS: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("%", _decode),
    ("%", _decode_separators),
    ("\\", _turn_backslashes),
    (";", _strip_parameters),
    ("//", _merge_slashes),
    ("/.", remove_dot_segments),
)
"""What a server may or may not do with a path, in this order, each with what the path must hold for it to matter."""
