"""What tells one client from the other, as a few bytes: an address, or a hash of whatever the client sends."""

import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from urllib.parse import unquote_to_bytes

from proxy.config.policy_types import ClientKey
from proxy.exchange import Exchange

Reading = Callable[[Exchange], bytes]
"""Reads one part of a key; empty when the client did not send it."""

_SIZE: Final = 16
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""What an IPv6 address begins with that stands for an IPv4 address (RFC 4291 section 2.5.5.2)."""
_NETWORK: Final = 8
"""Bytes of an IPv6 address that count: a client has all addresses of its /64."""


@lru_cache(maxsize=4096)
def address_key(address: str) -> bytes:
    """The key of an IP address, 5 or 9 bytes. What is none, as behind a Unix socket, is one client: one byte."""
    address = address.partition("%")[0]
    try:
        if ":" not in address:
            return b"4" + socket.inet_pton(socket.AF_INET, address)
        packed = socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError):
        return b"?"
    return b"4" + packed[12:] if packed.startswith(_MAPPED) else b"6" + packed[:_NETWORK]


class KeyReader:
    """Reads the parts in `keys` from an exchange and makes one key of them.

    The key is that of the address where this is the only part, else a hash of 16 bytes that nobody can make collide:
    each part is preceded by its length. Where the client left a part away, its address takes the part's place.
    """

    __slots__ = ("_reads", "read")

    def __init__(self, keys: Sequence[ClientKey]) -> None:
        self._reads = [reading(key) for key in keys]
        self.read: Reading = read_address if self._reads == [read_address] else self._read_hashed
        """The client's key."""

    def _read_hashed(self, exchange: Exchange) -> bytes:
        parts = []
        for read in self._reads:
            part = read(exchange)
            mark = b"+"
            if not part:
                part, mark = read_address(exchange), b"-"
            parts.append(b"%b%d:%b" % (mark, len(part), part))
        return blake2b(b"".join(parts), digest_size=_SIZE).digest()


def read_address(exchange: Exchange) -> bytes:
    """The key of the client's address."""
    return address_key(exchange.client_ip)


def reading(key: ClientKey) -> Reading:
    """How one part of a key is read from an exchange."""
    name = key.name.encode()
    match key.kind:
        case "client_ip":
            return read_address
        case "api_key":
            return _read_api_key
        case "header":
            return lambda exchange: b", ".join(_values(exchange, name.lower()))
        case "cookie":
            return lambda exchange: _cookie(exchange, name)
        case _:
            return lambda exchange: _param(exchange, key.name)


def _values(exchange: Exchange, name: bytes) -> list[bytes]:
    """All values of a field, given in lower case."""
    return [value for each, value in exchange.request.fields.raw if len(each) == len(name) and each.lower() == name]


def _read_api_key(exchange: Exchange) -> bytes:
    """X-API-Key, else the credentials of Authorization without their scheme."""
    if key := b", ".join(_values(exchange, b"x-api-key")):
        return key
    scheme_and_credentials = b", ".join(_values(exchange, b"authorization")).split(None, 1)
    return scheme_and_credentials[1] if len(scheme_and_credentials) > 1 else b""


def _cookie(exchange: Exchange, name: bytes) -> bytes:
    """The first cookie of that name, without quotes around it (RFC 6265 section 4.1.1)."""
    for header in _values(exchange, b"cookie"):
        for pair in header.split(b";"):
            found, _, value = pair.partition(b"=")
            if found.strip() == name:
                return value.strip().strip(b'"')
    return b""


def _param(exchange: Exchange, name: str) -> bytes:
    """The path parameter as the upstream will read it, so that `%61` and `a` are one client."""
    return unquote_to_bytes(exchange.params.get(name, "").encode("utf-8", "surrogateescape"))
