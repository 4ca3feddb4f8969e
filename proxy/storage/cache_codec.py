"""Stored responses as Redis keeps them: a version, a checksum, then MessagePack; long bodies are compressed.

Whatever else is found under a key is a BadEntry: no byte of it reaches a client. The checksum is BLAKE2b without a
secret, over the version, the length of the key, the key and the payload: an entry that was cut short, changed, or
copied from another key does not pass. It is no signature: who may write to Redis can make an entry that passes, so what
it says is checked like a response of the upstream.
"""

import zlib
from hashlib import blake2b
from math import isfinite
from typing import Final

import msgspec

from proxy.protocol.caching.stored import Part, StoredResponse, Terms
from proxy.protocol.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    HOP_BY_HOP,
    INVALID,
    KINDS,
    MAX_FIELDS,
    TRANSFER_ENCODING,
    UPGRADE,
    has_control_byte,
)
from proxy.protocol.headers import RawHeaders

MAX_BODY: Final = 64 * 1024 * 1024
"""Bytes; entries with longer bodies are not read."""

_VERSION: Final = b"\x01"
_CHECKSUM: Final = 16
_HEAD: Final = len(_VERSION) + _CHECKSUM
_PURPOSE: Final = b"tidegate cache"
_DAY: Final = 86_400.0
_EARLIEST: Final = -(2.0**36)
"""The year 1, nearly: a Date or Last-Modified before 1970, or an Age of 68 years, is odd and no more."""
_MAX_TAGS: Final = 1024
_VARIANT: Final = 16

_RAW_DEFLATE: Final = -15
_FASTEST: Final = 1
_SAMPLE: Final = 4096
"""Bytes that tell whether it is worth compressing all of a body."""

_NOT_STORED: Final = CONNECTION | CONTENT_LENGTH | TRANSFER_ENCODING | UPGRADE | HOP_BY_HOP | INVALID
_NOT_STORED_NAMES: Final = frozenset({b"age", b"content-range"})
_OK: Final = 200
_UNSTORABLE: Final = frozenset({206, 304})


class BadEntry(Exception):
    """What was read is no stored response of that key; `reason` is a fixed word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """The order is the format: whoever changes it changes the version."""

    status: int
    reason: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    length: int | None
    """Of the body before it was compressed; None: it is not."""
    date: float
    born: float
    lifetime: float
    stale_while_revalidate: float
    stale_if_error: float
    forbids_stale: bool
    always_validates: bool
    is_immutable: bool
    vary: tuple[bytes, ...]
    etag: bytes
    last_modified: float | None
    part: tuple[int, int] | None
    variant: bytes
    fill_seconds: float
    tags: tuple[str, ...]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Wire)


def encode(key: bytes, stored: StoredResponse, *, compress_above: int | None) -> bytes:
    """The entry for Redis; bodies of `compress_above` bytes or more are compressed where that makes them smaller."""
    terms, part, body = stored.terms, stored.part, stored.body
    length = None
    if compress_above is not None and len(body) >= compress_above and not _is_coded(stored.fields):
        body, length = _compressed(body)
    wire = _Wire(
        status=stored.status,
        reason=stored.reason,
        fields=stored.fields,
        body=body,
        length=length,
        date=terms.date,
        born=terms.born,
        lifetime=terms.lifetime,
        stale_while_revalidate=terms.stale_while_revalidate,
        stale_if_error=terms.stale_if_error,
        forbids_stale=terms.forbids_stale,
        always_validates=terms.always_validates,
        is_immutable=terms.is_immutable,
        vary=terms.vary,
        etag=terms.etag,
        last_modified=terms.last_modified,
        part=None if part is None else (part.first, part.complete_length),
        variant=stored.variant,
        fill_seconds=stored.fill_seconds,
        tags=stored.tags,
    )
    return seal(key, _encoder.encode(wire))


def decode(key: bytes, data: bytes, now: float) -> StoredResponse:
    """The response that was stored under `key`; `now` is Unix seconds. Raises BadEntry, and nothing else."""
    try:
        wire = _decoder.decode(_unsealed(key, data))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise BadEntry("shape") from error
    if not (_is_response(wire) and _are_terms(wire, now)):
        raise BadEntry("value")
    body = wire.body if wire.length is None else _decompressed(wire.body, wire.length)
    part = None if wire.part is None else Part(*wire.part)
    if len(body) > MAX_BODY or (part is not None and not _is_part(part, len(body))):
        raise BadEntry("value")
    return StoredResponse(
        status=wire.status,
        reason=wire.reason,
        fields=wire.fields,
        body=body,
        terms=_terms(wire),
        part=part,
        variant=wire.variant,
        fill_seconds=wire.fill_seconds,
        tags=wire.tags,
    )


def seal(key: bytes, payload: bytes) -> bytes:
    """`payload` with the version and the checksum before it."""
    return b"%b%b%b" % (_VERSION, _checksum(key, payload), payload)


def _unsealed(key: bytes, data: bytes) -> memoryview:
    if len(data) <= _HEAD:
        raise BadEntry("truncated")
    if data[:1] != _VERSION:
        raise BadEntry("version")
    payload = memoryview(data)[_HEAD:]
    if data[1:_HEAD] != _checksum(key, payload):
        raise BadEntry("checksum")
    return payload


def _checksum(key: bytes, payload: bytes | memoryview) -> bytes:
    digest = blake2b(b"%b%d:%b" % (_VERSION, len(key), key), digest_size=_CHECKSUM, person=_PURPOSE)
    digest.update(payload)
    return digest.digest()


def _terms(wire: _Wire) -> Terms:
    return Terms(
        refusal="",
        date=wire.date,
        born=wire.born,
        lifetime=wire.lifetime,
        stale_while_revalidate=wire.stale_while_revalidate,
        stale_if_error=wire.stale_if_error,
        forbids_stale=wire.forbids_stale,
        always_validates=wire.always_validates,
        is_immutable=wire.is_immutable,
        vary=wire.vary,
        etag=wire.etag,
        last_modified=wire.last_modified,
    )


# --- bodies ---


def _is_coded(fields: RawHeaders) -> bool:
    return any(name.lower() == b"content-encoding" for name, _ in fields)


def _compressed(body: bytes) -> tuple[bytes, int | None]:
    """A shorter body and the length it had; the body itself and None where there is little to be gained."""
    start = body[:_SAMPLE]
    shorter = _deflated(start)
    if len(shorter) > len(start) * 7 // 8:
        return body, None
    return shorter if len(start) == len(body) else _deflated(body), len(body)


def _deflated(data: bytes) -> bytes:
    return zlib.compress(data, _FASTEST, _RAW_DEFLATE)


def _decompressed(data: bytes, length: int) -> bytes:
    """The body of exactly that length: no more than that is ever unpacked. Raises BadEntry."""
    if not 0 <= length <= MAX_BODY:
        raise BadEntry("value")
    inflater = zlib.decompressobj(_RAW_DEFLATE)
    try:
        body = inflater.decompress(data, length + 1)
    except zlib.error as error:
        raise BadEntry("value") from error
    if len(body) != length or not inflater.eof or inflater.unused_data:
        raise BadEntry("value")
    return body


# --- what an entry may say ---


def _is_response(wire: _Wire) -> bool:
    return (
        200 <= wire.status < 600
        and wire.status not in _UNSTORABLE
        and (wire.part is None or wire.status == _OK)
        and not has_control_byte(wire.reason)
        and len(wire.fields) <= MAX_FIELDS + 1  # Date was added to what came
        and all(map(_is_field, wire.fields))
        and len(wire.tags) <= _MAX_TAGS
    )


def _is_field(field: tuple[bytes, bytes]) -> bool:
    name, value = field
    return not (KINDS[name] & _NOT_STORED or name.lower() in _NOT_STORED_NAMES or has_control_byte(value))


def _are_terms(wire: _Wire, now: float) -> bool:
    durations = (wire.lifetime, wire.stale_while_revalidate, wire.stale_if_error, wire.fill_seconds)
    times = (wire.date, wire.born, 0.0 if wire.last_modified is None else wire.last_modified)
    return (
        all(isfinite(each) and each >= 0 for each in durations)
        and all(isfinite(each) and each >= _EARLIEST for each in times)
        and wire.born <= now + _DAY
        and not has_control_byte(wire.etag)
        and _is_selection(wire.vary, wire.variant)
    )


def _is_selection(vary: tuple[bytes, ...], variant: bytes) -> bool:
    """Names as `vary_of` gives them, and the digest of their values."""
    if len(vary) > MAX_FIELDS or list(vary) != sorted(set(vary)) or len(variant) != (_VARIANT if vary else 0):
        return False
    return not any(KINDS[name] & INVALID or name != name.lower() or name == b"*" for name in vary)


def _is_part(part: Part, length: int) -> bool:
    return part.first >= 0 and 0 < length < part.complete_length and part.first + length <= part.complete_length
