"""Byte ranges: what a request asks for, what a response holds, and putting parts together (RFC 9110 section 14)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import count
from typing import Final

from proxy.protocol.caching.stored import Part, StoredResponse
from proxy.protocol.caching.updating import share_strong_validator, updated
from proxy.protocol.headers import RawHeaders

Range = tuple[int, int]
"""First and last byte, both included."""

_OWS: Final = b" \t"
_SPEC: Final = re.compile(rb"([0-9]*)-([0-9]*)")
_CONTENT_RANGE: Final = re.compile(rb"bytes[ \t]+([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})", re.IGNORECASE)
_MAX_DIGITS: Final = 19
_BEYOND: Final = 10**_MAX_DIGITS
"""What a longer number counts as."""
_MAX_SPECS: Final = 128
_MAX_RANGES: Final = 16
"""Beyond them a request is an attack rather than a need (section 14.2)."""


def requested(value: bytes, length: int) -> list[Range] | None:
    """What the Range field `value` asks of `length` bytes, in its order, what overlaps or touches in one.

    None: the field is ignored (no bytes, malformed, too many, all of it in pieces). Empty: none of it is there (416).
    """
    unit, _, specs = value.strip(_OWS).partition(b"=")
    if unit.lower() != b"bytes" or specs.count(b",") >= _MAX_SPECS:
        return None
    ranges = [_read(spec, length) for spec in map(_stripped, specs.split(b",")) if spec]
    if not ranges or None in ranges:
        return None
    joined = _joined([found for found in ranges if found is not None and found[0] <= found[1]])
    if len(joined) > _MAX_RANGES or (len(ranges) > 1 and joined == [(0, length - 1)]):
        return None
    return joined


def _stripped(spec: bytes) -> bytes:
    return spec.strip(_OWS)


def _read(spec: bytes, length: int) -> Range | None:
    """One range, cut off at the end; its first is beyond its last when there is nothing of it. None: malformed."""
    match = _SPEC.fullmatch(spec)
    if match is None or spec == b"-":
        return None
    begin, end = map(_number, match.groups())
    if not match[1]:
        # The last bytes of nothing are all of it (section 14.1.2), which no Content-Range can say.
        return None if end and not length else (max(length - end, 0), length - 1)
    if match[2] and end < begin:
        return None
    return begin, min(end, length - 1) if match[2] else length - 1


def _number(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return _BEYOND if len(digits) > _MAX_DIGITS else int(digits or b"0")


def _joined(ranges: Sequence[Range]) -> list[Range]:
    """What overlaps or touches as one, in the place of the first of them (section 15.3.7.2)."""
    found: list[tuple[int, int, int]] = []
    for first, last, place in sorted((first, last, place) for place, (first, last) in enumerate(ranges)):
        if found and first <= found[-1][1] + 1:
            start, end, earlier = found[-1]
            found[-1] = (start, max(end, last), min(earlier, place))
        else:
            found.append((first, last, place))
    return [(first, last) for first, last, _ in sorted(found, key=_place)]


def _place(found: tuple[int, int, int]) -> int:
    return found[2]


def part_of(status: int, response_fields: RawHeaders, body_length: int) -> Part | None:
    """Which part the body of a 206 is; None unless it says so in one Content-Range that fits its length.

    One of unknown complete length is of no use, nor is one in several parts.
    """
    if status != 206:
        return None
    values = [value for name, value in response_fields if name.lower() == b"content-range"]
    match = _CONTENT_RANGE.fullmatch(values[0].strip(_OWS)) if len(values) == 1 else None
    if match is None:
        return None
    first, last, complete = map(int, match.groups())
    if not first <= last < complete or last - first + 1 != body_length:
        return None
    return Part(first, complete)


def is_whole(stored: StoredResponse) -> bool:
    """Whether the body is all of the representation."""
    return stored.part is None or (stored.part.first == 0 and stored.part.complete_length == len(stored.body))


def holds(stored: StoredResponse, ranges: Iterable[Range]) -> bool:
    """Whether all of `ranges` are wholly in the stored body."""
    start = 0 if stored.part is None else stored.part.first
    end = start + len(stored.body)
    return all(start <= first and last < end for first, last in ranges)


def combined(old: StoredResponse, new: StoredResponse) -> StoredResponse | None:
    """`old` and the part `new` in one, with the terms of `new` (RFC 9111 section 3.4); a whole one has no part.

    None unless both have the same strong validator and length and leave no gap; nor where they contradict each other.
    """
    length = _complete_length(new)
    if old.variant != new.variant or _complete_length(old) != length:
        return None
    if not share_strong_validator(old.terms, new.terms):
        return None
    joined = _union(_start(old), old.body, _start(new), new.body)
    if joined is None:
        return None
    first, body = joined
    base = updated(old, new.fields, new.terms)
    part = None if len(body) == length else Part(first, length)
    return replace(new, fields=base.fields, body=body, part=part)


def _start(stored: StoredResponse) -> int:
    return 0 if stored.part is None else stored.part.first


def _complete_length(stored: StoredResponse) -> int:
    return len(stored.body) if stored.part is None else stored.part.complete_length


def _union(first: int, one: bytes, second: int, other: bytes) -> tuple[int, bytes] | None:
    """Where both bodies begin, and their bytes; None for a gap, and where they differ on the same bytes."""
    if second < first:
        first, one, second, other = second, other, first, one
    offset = second - first
    if offset > len(one):
        return None
    overlap = min(len(one) - offset, len(other))
    if one[offset : offset + overlap] != other[:overlap]:
        return None
    return first, one + other[overlap:]


def multipart(
    ranges: Iterable[Range], stored: StoredResponse, content_type: Sequence[tuple[bytes, bytes]]
) -> tuple[bytes, bytes]:
    """The Content-Type and the body of a multipart/byteranges (RFC 9110 section 14.6) from a body that holds them all.

    `content_type` is the stored field, if there is one.
    """
    boundary = _boundary(stored.body)
    start, length = _start(stored), _complete_length(stored)
    head = b"--%b\r\n%bContent-Range: bytes " % (boundary, b"".join([b"%b: %b\r\n" % field for field in content_type]))
    pieces = []
    for first, last in ranges:
        pieces += [b"%b%d-%d/%d\r\n\r\n" % (head, first, last, length), stored.body[first - start : last - start + 1]]
        pieces.append(b"\r\n")
    pieces.append(b"--%b--\r\n" % boundary)
    return b"multipart/byteranges; boundary=" + boundary, b"".join(pieces)


def _boundary(body: bytes) -> bytes:
    """One that `body` does not contain: nobody can put a false end into it."""
    return next(word for word in map(_word, count()) if word not in body)


def _word(number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=16).hexdigest().encode()
