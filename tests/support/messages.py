"""HTTP/1.1 messages as a test sees them, and the strict reading of their heads and bodies from a wire."""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.wire import Ended, Wire

RawHeaders = list[tuple[bytes, bytes]]
Fields = Sequence[tuple[str | bytes, str | bytes]]
HeadersLike = Mapping[str, str] | Fields
"""Header fields as a test writes them: a dict, or pairs where order or repetition matters."""

_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[^\r\n]*)?\r\n")


class Malformed(Exception):
    """The bytes are not what RFC 9112 lets a sender send."""


@dataclass(slots=True)
class Message:
    """What requests and responses share: fields in the spelling and order of the wire, and a body."""

    headers: RawHeaders = field(default_factory=list)
    body: bytes = b""
    trailers: RawHeaders = field(default_factory=list)
    complete: bool = False
    """Whether the body ended as its framing says."""
    raw: bytearray = field(default_factory=bytearray)
    """Every byte of the message."""

    def header(self, name: str) -> str | None:
        """The only field of that name, or None; a repeated one fails the test."""
        values = self.header_list(name)
        if len(values) > 1:
            raise Malformed(f"{name} appears {len(values)} times: {values}")
        return values[0] if values else None

    def header_list(self, name: str) -> list[str]:
        """All values of that name in order."""
        wanted = name.lower().encode()
        return [value.decode("utf-8", "surrogateescape") for key, value in self.headers if key.lower() == wanted]

    def names(self) -> list[str]:
        """Field names as they were spelled, in order."""
        return [key.decode("latin-1") for key, _ in self.headers]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_chunked(self) -> bool:
        return [value.lower() for value in self.header_list("Transfer-Encoding")] == ["chunked"]

    @property
    def content_length(self) -> int | None:
        value = self.header("Content-Length")
        if value is None:
            return None
        if not re.fullmatch(r"0|[1-9][0-9]{0,17}", value):
            raise Malformed(f"Content-Length: {value!r}")
        return int(value)


@dataclass(slots=True)
class Response(Message):
    """An answer, complete or not."""

    status: int = 0
    reason: str = ""
    version: str = ""
    interim: list["Response"] = field(default_factory=list)
    """1xx answers that came before, in order."""
    ended: Ended = "open"
    """What the connection had come to when the last byte of the answer was read."""


@dataclass(slots=True)
class ReceivedRequest(Message):
    """A request as it reached the upstream."""

    method: str = ""
    target: str = ""
    version: str = ""
    connection: int = 0
    """Number of the connection, from 1."""
    number: int = 0
    """Number of the request on its connection, from 1."""
    body_length: int = 0
    """Bytes of the body that arrived, also where the body itself is not kept."""
    body_sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


def encode_headers(headers: HeadersLike) -> bytes:
    """Header lines, each with its CRLF."""
    return b"".join(octets(name) + b": " + octets(value) + b"\r\n" for name, value in header_pairs(headers))


def header_pairs(headers: HeadersLike) -> Fields:
    return list(headers.items()) if isinstance(headers, Mapping) else headers


def parse_fields(lines: list[bytes]) -> RawHeaders:
    """Header or trailer lines, each without its CRLF."""
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise Malformed(f"field line {line[:200]!r}")
        fields.append((match[1], match[2]))
    return fields


async def read_head(wire: Wire) -> tuple[bytes, RawHeaders]:
    """Start line and fields; raises WireEnded or Malformed."""
    head = await wire.read_until(b"\r\n\r\n")
    if head.count(b"\n") != head.count(b"\r\n") or head.count(b"\r") != head.count(b"\r\n"):
        raise Malformed(f"bare CR or LF in {head[:200]!r}")
    start, *lines = head[:-4].split(b"\r\n")
    return start, parse_fields(lines)


async def read_sized(wire: Wire, size: int) -> AsyncIterator[bytes]:
    """The pieces of a body with Content-Length; raises WireEnded."""
    while size:
        piece = await wire.read(min(size, 65536)) or await wire.read_exactly(size)
        size -= len(piece)
        yield piece


async def read_chunked(wire: Wire, message: Message) -> AsyncIterator[bytes]:
    """The pieces of a chunked body; sets the message's trailers; raises WireEnded or Malformed."""
    while size := await _chunk_size(wire):
        async for piece in read_sized(wire, size):
            yield piece
        if await wire.read_exactly(2) != b"\r\n":
            raise Malformed("chunk data is longer than its size")
    lines = []
    while (line := await wire.read_until(b"\r\n")) != b"\r\n":
        lines.append(line[:-2])
    message.trailers = parse_fields(lines)


async def _chunk_size(wire: Wire) -> int:
    line = await wire.read_until(b"\r\n")
    match = _CHUNK_SIZE.fullmatch(line)
    if match is None:
        raise Malformed(f"chunk size {line[:100]!r}")
    return int(match[1], 16)


def octets(text: str | bytes) -> bytes:
    """As it goes on the wire; surrogates stand for bytes that are not UTF-8."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
