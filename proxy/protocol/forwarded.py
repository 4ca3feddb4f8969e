"""Who the client is, and what the upstream is told about it: X-Forwarded-*, X-Real-IP and Forwarded (RFC 7239)."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from proxy.errors import BadRequest
from proxy.protocol.fields import FORWARDED, KINDS
from proxy.protocol.headers import RawHeaders
from proxy.protocol.request_checks import parse_authority

_MAX_HOPS: Final = 32
"""Hops of X-Forwarded-For that are looked at, from the right."""
_MAX_HOP_LENGTH: Final = 64
_PORT: Final = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?|([0-9.]{7,15}):[0-9]{1,5}")
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._~\-]{1,128}")
_OURS: Final = frozenset({b"forwarded", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"})

Network = IPv4Network | IPv6Network


class Hop:
    """One address on the way of a request, taken apart once."""

    __slots__ = ("is_local", "number", "text", "version")

    def __init__(self, address: IPv4Address | IPv6Address) -> None:
        self.text = str(address)
        self.version = address.version
        self.number = int(address)
        self.is_local = address.is_loopback or address.is_link_local or address.is_unspecified
        """No client on the network can have it, so it is not believed from a header."""


@lru_cache(maxsize=4096)
def parse_hop(text: str) -> Hop | None:
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
    return Hop((isinstance(address, IPv6Address) and address.ipv4_mapped) or address)


class ClientAddress:
    """Finds the client's address with the help of the proxies that are trusted, given as networks."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for network in networks:
            self._networks[network.version].append((int(network.netmask), int(network.network_address)))

    def trusts(self, hop: Hop) -> bool:
        """Whether `hop` is in one of the networks."""
        number = hop.number
        for mask, base in self._networks[hop.version]:  # noqa: SIM110  # a generator costs three times as much
            if number & mask == base:
                return True
        return False

    def resolve(self, peer: Hop, chain: str) -> Hop:
        """The right-most address of an X-Forwarded-For chain that is not trusted itself; `peer` is trusted.

        What is no address ends the walk, and so does a local one. A local one that is trusted is walked over, as
        between two proxies on one machine.
        """
        client = peer
        for text in reversed(chain.rsplit(",", _MAX_HOPS)[-_MAX_HOPS:]):
            hop = parse_hop(text)
            if hop is None:
                break
            if not hop.is_local:
                client = hop
            if not self.trusts(hop):
                break
        return client


class Forwarding:
    """What is known about the client side of one connection.

    From a peer that is not trusted all fields but the host are the same on every request, and are kept.
    """

    __slots__ = ("_clients", "_fields", "_host", "_peer", "_scheme", "_trusted_peer")

    def __init__(self, clients: ClientAddress, peer: str, scheme: str) -> None:
        """`peer` is the address of the connection, "" for a Unix socket; `scheme` is http or https."""
        hop = parse_hop(peer)
        self._clients = clients
        self._peer = "unknown" if hop is None else hop.text
        self._trusted_peer = hop if hop is not None and clients.trusts(hop) else None
        self._scheme = scheme
        self._host: str | None = None
        self._fields: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def is_trusted(self) -> bool:
        """Whether the peer's X-Forwarded-*, request id and deadline are believed."""
        return self._trusted_peer is not None

    def identify(self, host: str, raw_headers: RawHeaders) -> tuple[str, str, Sequence[tuple[bytes, bytes]]]:
        """The client's address ("unknown" behind a Unix socket), the scheme it used and the fields for the upstream."""
        if self._trusted_peer is not None:
            return self._identify_behind(self._trusted_peer, host, raw_headers)
        if host != self._host:
            self._fields = _fields(self._peer, self._peer, self._scheme, host)
            self._host = host
        return self._peer, self._scheme, self._fields

    def _identify_behind(
        self, peer: Hop, host: str, raw_headers: RawHeaders
    ) -> tuple[str, str, Sequence[tuple[bytes, bytes]]]:
        received: dict[bytes, list[bytes]] = {}
        others = []
        for field in raw_headers:
            if KINDS[field[0]] & FORWARDED:
                name = field[0].lower()
                if name in _OURS:
                    received.setdefault(name, []).append(field[1])
                else:
                    others.append(field)
        chain = b", ".join(received.get(b"x-forwarded-for", ())).decode("latin-1")
        client = self._clients.resolve(peer, chain).text
        scheme = _scheme(received.get(b"x-forwarded-proto", ())) or self._scheme
        host = _host(received.get(b"x-forwarded-host", ())) or host
        chain = f"{chain}, {peer.text}" if chain else peer.text
        return client, scheme, (*_fields(client, chain, scheme, host), *others)


def request_id(received: bytes | None, trusted: bool, random_bytes: Callable[[int], bytes]) -> str:
    """The id of a trusted peer if it is of 1 to 128 safe characters, else a new one of 32 hex digits."""
    if trusted and received is not None and _REQUEST_ID.fullmatch(received):
        return received.decode()
    return random_bytes(16).hex()


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
