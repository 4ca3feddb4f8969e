"""Who the client is, and what the upstream is told about it: X-Forwarded-*, X-Real-IP and Forwarded (RFC 7239)."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from proxy.errors import BadRequest
from proxy.protocol.fields import FORWARDED, KINDS, REQUEST_ID_FIELD
from proxy.protocol.headers import RawHeaders
from proxy.protocol.request_checks import parse_authority

_MAX_HOPS: Final = 32
"""Hops of X-Forwarded-For that are looked at, from the right."""
_MAX_HOP_LENGTH: Final = 64
_PORT: Final = re.compile(r"\[([^\]]*)\](?::\d{1,5})?|(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}")
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._~\-]{1,128}")
_OURS: Final = frozenset({b"forwarded", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"})

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class ClientAddress:
    """Finds the client's address with the help of the proxies that are trusted, given as networks."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for network in networks:
            self._networks[network.version].append((int(network.netmask), int(network.network_address)))

    def trusts(self, address: Address | None) -> bool:
        """Whether `address` is in one of the networks."""
        if address is None:
            return False
        number = int(address)
        return any(number & mask == base for mask, base in self._networks[address.version])

    def resolve(self, peer: Address, hops: Sequence[str]) -> Address:
        """The right-most address of `hops` that is not trusted itself; `peer` is trusted.

        What is no address ends the walk, and so do addresses that no client can have on the network: loopback,
        link-local, unspecified. A trusted one of those is walked over, as between two proxies on one machine.
        """
        client = peer
        for hop in reversed(hops):
            address = parse_address(hop)
            if address is None:
                break
            trusted = self.trusts(address)
            if not (address.is_loopback or address.is_link_local or address.is_unspecified):
                client = address
            if not trusted:
                break
        return client


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address | None:
    """An IP address as proxies write it, or None. Port, brackets, zone and the IPv4-mapped form are taken off."""
    text = text.strip(" \t")
    if len(text) > _MAX_HOP_LENGTH:
        return None
    match = _PORT.fullmatch(text)
    if match is not None:
        text = match[1] or match[2]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


class Forwarding:
    """What is known about the client side of one connection.

    From a peer that is not trusted all fields but the host are the same on every request, and are kept.
    """

    __slots__ = ("_clients", "_fields", "_host", "_peer", "_peer_text", "_scheme", "is_trusted")

    def __init__(self, clients: ClientAddress, peer: str, scheme: str) -> None:
        """`peer` is the address of the connection, "" for a Unix socket; `scheme` is http or https."""
        self._clients = clients
        self._peer = parse_address(peer)
        self._peer_text = "unknown" if self._peer is None else str(self._peer)
        self._scheme = scheme
        self.is_trusted = clients.trusts(self._peer)
        """Whether the peer's X-Forwarded-*, request id and deadline are believed."""
        self._host: str | None = None
        self._fields: tuple[tuple[bytes, bytes], ...] = ()

    def identify(self, host: str, raw_headers: RawHeaders) -> tuple[str, str, Sequence[tuple[bytes, bytes]]]:
        """The client's address ("unknown" behind a Unix socket), the scheme it used and the fields for the upstream."""
        if self.is_trusted:
            return self._from_trusted(host, raw_headers)
        if host != self._host:
            self._fields = _fields(self._peer_text, self._peer_text, self._scheme, host)
            self._host = host
        return self._peer_text, self._scheme, self._fields

    def _from_trusted(self, host: str, raw_headers: RawHeaders) -> tuple[str, str, Sequence[tuple[bytes, bytes]]]:
        received: dict[bytes, list[bytes]] = {}
        others = []
        for field in raw_headers:
            if KINDS[field[0]] & FORWARDED:
                name = field[0].lower()
                if name in _OURS:
                    received.setdefault(name, []).append(field[1])
                else:
                    others.append(field)
        chain = b",".join(received.get(b"x-forwarded-for", ()))
        hops = chain.decode("latin-1").rsplit(",", _MAX_HOPS)[-_MAX_HOPS:] if chain else []
        client = self._peer_text
        if self._peer is not None:
            client = str(self._clients.resolve(self._peer, hops))
        scheme = _scheme(received.get(b"x-forwarded-proto", ())) or self._scheme
        host = _host(received.get(b"x-forwarded-host", ())) or host
        whole = f"{chain.decode('latin-1')}, {self._peer_text}" if chain else self._peer_text
        return client, scheme, (*_fields(client, whole, scheme, host), *others)


def request_id(received: bytes | None, trusted: bool, random_bytes: Callable[[int], bytes]) -> str:
    """The id of a trusted peer if it is of 1 to 128 safe characters, else a new one of 32 hex digits."""
    if trusted and received is not None and _REQUEST_ID.fullmatch(received):
        return received.decode()
    return random_bytes(16).hex()


def find_request_id(raw_headers: RawHeaders) -> bytes | None:
    """The value of the first X-Request-ID."""
    lowered = REQUEST_ID_FIELD.lower()
    return next((value for name, value in raw_headers if name.lower() == lowered), None)


def _fields(client: str, chain: str, scheme: str, host: str) -> tuple[tuple[bytes, bytes], ...]:
    node = f'"[{client}]"' if ":" in client else client
    # Host names with a port or brackets are not tokens, so the value is always quoted; its grammar has no quote in it.
    element = f'for={node};host="{host}";proto={scheme}' if host else f"for={node};proto={scheme}"
    fields = (
        (b"X-Forwarded-For", chain.encode("latin-1")),
        (b"X-Forwarded-Proto", scheme.encode()),
        (b"X-Real-IP", client.encode()),
        (b"Forwarded", element.encode()),
    )
    return (*fields, (b"X-Forwarded-Host", host.encode())) if host else fields


def _scheme(values: Sequence[bytes]) -> str:
    """The one scheme that a trusted peer names, or ""."""
    value = values[0].lower() if len(values) == 1 else b""
    return value.decode() if value in (b"http", b"https") else ""


def _host(values: Sequence[bytes]) -> str:
    """The one authority that a trusted peer names, or ""."""
    if len(values) != 1:
        return ""
    try:
        return parse_authority(values[0])
    except BadRequest:
        return ""
