"""Addresses in policies.yaml: networks, listeners, authorities and upstream URLs."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

from proxy.config.scalar import Scalar, shown

IPAddress = IPv4Address | IPv6Address

WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
"""Hosts of a listener that stand for every address of the machine."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
_LOOKS_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?", re.ASCII)
"""A name that ends in a number: resolvers read 2130706433 and 0x7f.1 as addresses."""
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:/@\s]*))(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_MAX_PORT = 65535
_MAX_SOCKET_PATH = 107
"""Bytes that fit into sockaddr_un.sun_path on Linux."""


def as_ip(host: str) -> IPAddress | None:
    """The address that `host` spells in canonical form, else None."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether `host` can only be reached from this machine."""
    address = as_ip(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def check_host(host: str) -> str:
    """Lower-cased `host`. Raises ValueError unless it is a host name or a canonical IP address."""
    if as_ip(host) is None and (
        len(host) > 253 or not _HOST_NAME.fullmatch(host) or _LOOKS_NUMERIC.fullmatch(host) is not None
    ):
        raise ValueError(f"{shown(host)} is neither a host name nor an IP address")
    return host.lower()


def _parse_host_name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a host name must be text: quote it")
    return check_host(value)


HostName = Annotated[
    str,
    BeforeValidator(_parse_host_name),
    WithJsonSchema({"type": "string", "pattern": r"^[^\s/@]+$", "examples": ["api.example.com"]}),
]
"""A name or an IP address without brackets, lower case."""


def _split(text: str) -> tuple[str, int | None] | None:
    """Host and port of `host:port`, `[v6]:port` or one of them alone; None when it is neither."""
    match = _HOST_PORT.fullmatch(text)
    if match is None or (match["v6"] is not None and not isinstance(as_ip(match["v6"]), IPv6Address)):
        return None
    port = None if match["port"] is None else int(match["port"])
    if port is not None and port > _MAX_PORT:
        raise ValueError(f"port {port} is out of range: ports end at {_MAX_PORT}")
    return match["v6"] or match["name"], port


def _join(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _socket_path(text: str) -> str:
    path = text.removeprefix("unix:")
    if not path.startswith("/") or len(path.encode()) > _MAX_SOCKET_PATH or not path.isprintable():
        raise ValueError(
            f"{shown(text)} is not a Unix socket: write unix: and an absolute path of at most "
            f"{_MAX_SOCKET_PATH} bytes, such as unix:/run/api.sock"
        )
    return path


# --- networks -------------------------------------------------------------------------------------------------------


def _parse_cidr(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str) or not re.fullmatch(r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?", value, re.ASCII):
        raise ValueError(f"{shown(value)} is not a network: write 10.0.0.0/8, 2001:db8::/32 or one address")
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"{shown(value)} is not a network: write 10.0.0.0/8, 2001:db8::/32 or one address") from None
    if "/" in value and ip_address(value.partition("/")[0]) != network.network_address:
        raise ValueError(f"{shown(value)} names one address and a whole network: write {network} or the address alone")
    return network


def _format_cidr(network: IPv4Network | IPv6Network) -> str:
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if single else str(network)


Cidr = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_parse_cidr),
    PlainSerializer(_format_cidr, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$",
            "examples": ["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"],
        }
    ),
]
"""A network; a single address is a network of one."""


# --- listeners ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListenAddress(Scalar):
    """Where to listen: `host:port`, `[::1]:80`, `:8080` (every address, host ""), or `unix:/path`."""

    host: str
    port: int
    """0 takes any free port."""
    path: str = ""
    """Of a Unix socket; host and port are then empty."""

    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^(unix:/.+|.*:[0-9]{1,5})$",
        "examples": ["0.0.0.0:8080", "127.0.0.1:9901", "[::1]:8080", ":8080", "unix:/run/tidegate.sock"],
    }

    @classmethod
    def parse(cls, value: object) -> "ListenAddress":
        """Read one of the forms above."""
        if not isinstance(value, str):
            raise ValueError(f"{shown(value)} is not an address to listen on: write 127.0.0.1:8080 or :8080")
        if value.startswith("unix:"):
            return cls("", 0, _socket_path(value))
        host, port = _split(value) or ("", None)
        if port is None:
            raise ValueError(
                f"{shown(value)} is not an address to listen on: write 127.0.0.1:8080, [::1]:8080, :8080 "
                "or unix:/run/tidegate.sock"
            )
        return cls(check_host(host) if host else "", port)

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach it."""
        return not self.path and not is_loopback(self.host)

    def overlaps(self, other: "ListenAddress") -> bool:
        """Whether both cannot be bound at once."""
        if self.path or other.path:
            return self.path == other.path
        same_host = self.host == other.host or not WILDCARDS.isdisjoint((self.host, other.host))
        return self.port == other.port != 0 and same_host

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else _join(self.host, self.port)


# --- authorities ----------------------------------------------------------------------------------------------------


def _parse_authority(value: object) -> str:
    host_port = _split(value) if isinstance(value, str) else None
    if host_port is None or not host_port[0] or host_port[1] == 0:
        raise ValueError(f"{shown(value)} is not an authority: write a host, or host:port as in api.test:8443")
    return _join(check_host(host_port[0]), host_port[1])


Authority = Annotated[
    str,
    BeforeValidator(_parse_authority),
    WithJsonSchema({"type": "string", "pattern": r"^[^\s/@]+$", "examples": ["api.example.com", "api.test:8443"]}),
]
"""`host` or `host:port`, lower case, IPv6 in brackets."""


def _parse_host_choice(value: object) -> str:
    return str(value) if value in ("preserve", "upstream") else _parse_authority(value)


HostChoice = Annotated[
    str,
    BeforeValidator(_parse_host_choice),
    WithJsonSchema({"type": "string", "pattern": r"^[^\s/@]+$", "examples": ["preserve", "upstream", "api.internal"]}),
]
"""`preserve`, `upstream` or an authority."""


# --- upstream URLs --------------------------------------------------------------------------------------------------

_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#\\\s]*)(?P<rest>.*)", re.ASCII | re.DOTALL)
_URL_HELP = "write http://host:port, https://host:port or unix:/path/to.sock"


@dataclass(frozen=True, slots=True)
class UpstreamUrl(Scalar):
    """One endpoint of an upstream. For a Unix socket the host is `localhost`, the port 0 and `path` the socket."""

    scheme: str
    """`http`, `https` or `unix`."""
    host: str
    """Without brackets."""
    port: int
    path: str = ""

    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^(https?://[^/?#@\s]+/?|unix:/.+)$",
        "examples": ["http://127.0.0.1:3000", "https://api.internal", "unix:/run/api.sock"],
    }

    @classmethod
    def parse(cls, value: object) -> "UpstreamUrl":
        """Read `http://host:port`, `https://host:port` or `unix:/path`."""
        if isinstance(value, str) and re.match("unix:/(?!/)", value):
            return cls("unix", "localhost", 0, _socket_path(value))
        match = _URL.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{shown(value)} is not an upstream URL: {_URL_HELP}")
        scheme = match["scheme"].lower()
        if scheme not in _DEFAULT_PORTS:
            raise ValueError(f"the scheme of {shown(value)} is not supported: {_URL_HELP}")
        if "@" in match["authority"]:
            raise ValueError("an upstream URL holds no user name or password: send credentials by headers")
        if match["rest"] not in ("", "/"):
            raise ValueError(f"{shown(value)} has more than a host and port: change the path by `rewrite` on a route")
        host, port = _endpoint(match["authority"], shown(value))
        return cls(scheme, host, _DEFAULT_PORTS[scheme] if port is None else port)

    @property
    def authority(self) -> str:
        """What a Host field for this endpoint holds: the port only where it is not the scheme's own."""
        return _join(self.host, None if self.port == _DEFAULT_PORTS.get(self.scheme, 0) else self.port)

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.scheme}://{self.authority}"


def _endpoint(authority: str, url: str) -> tuple[str, int | None]:
    host_port = _split(authority)
    if host_port is None or not host_port[0]:
        raise ValueError(f"{url} has no valid host and port: {_URL_HELP}")
    host, port = host_port
    if port == 0:
        raise ValueError(f"port 0 of {url} is out of range: ports are 1 to {_MAX_PORT}")
    host = check_host(host)
    address = as_ip(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address is not None and (address.is_link_local or address.is_unspecified or address.is_multicast):
        raise ValueError(f"{url} is a link-local, unspecified or multicast address: name the API's own address")
    return host, port
