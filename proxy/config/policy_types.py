"""The scalar types of the resilience policies: ratios, rates, client keys, causes of a retry, the address of Redis."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, PlainSerializer, SerializationInfo, WithJsonSchema

from proxy.config.addresses import check_host
from proxy.config.environment import Expanded
from proxy.config.quantities import format_duration, parse_duration
from proxy.config.scalar import Scalar, shown
from proxy.config.types import MASK, Matching, is_off, read_count, reveals


def one_or_several(value: object) -> object:
    """A list of one for what is not a list."""
    return value if isinstance(value, tuple | list) else (value,)


# --- mode -----------------------------------------------------------------------------------------------------------

Mode = Annotated[
    Literal["enforce", "shadow", "off"],
    BeforeValidator(lambda value: "off" if is_off(value) else value, json_schema_input_type=Any),
    WithJsonSchema({"enum": ["enforce", "shadow", "off", False]}),
]
"""Whether a policy acts, only reports, or is not there."""

# --- ratios ---------------------------------------------------------------------------------------------------------

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%", re.ASCII)
_FRACTION = re.compile(r"0?\.[0-9]{1,6}|0", re.ASCII)
_RATIO_HELP = "write a percentage such as 50%, or a fraction below 1 such as 0.5"


def parse_ratio(value: object) -> float:
    """0.5 of `50%` or `0.5`. A bare 1 or 50 could mean either, and is refused."""
    if isinstance(value, float) and 0 < value < 1:
        return value
    if isinstance(value, str):
        if match := _PERCENT.fullmatch(value):
            ratio = round(float(match[1]) / 100, 6)
        elif isinstance(value, Expanded) and _FRACTION.fullmatch(value):
            ratio = float(value)
        else:
            raise ValueError(f"{shown(value)} is not a ratio: {_RATIO_HELP}")
        if 0 < ratio <= 1:
            return ratio
        raise ValueError(f"{shown(value)} is out of range: more than 0% and at most 100%")
    raise ValueError(f"{shown(value)} is not a ratio: {_RATIO_HELP}")


def _read_ratio(value: object, info: Any) -> object:
    # In code a ratio is a number; only in the file does a 1 lack its unit.
    if not info.context and isinstance(value, int | float):
        return float(value)
    return parse_ratio(value)


def format_ratio(ratio: float) -> str:
    """The YAML form; `parse_ratio` reads the same value back."""
    return f"{ratio * 100:.6g}%"


Ratio = Annotated[
    float,
    BeforeValidator(_read_ratio),
    PlainSerializer(format_ratio, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                {"type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,3})?%$", "examples": ["50%", "0.5%"]},
            ]
        }
    ),
]
"""More than 0, at most 1."""

# --- rates ----------------------------------------------------------------------------------------------------------

_RATE = re.compile(r"([0-9]{1,9})/([0-9a-z.]{1,20})", re.ASCII)
_PERIODS = {
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("m", "min", "minute"), 60.0),
    **dict.fromkeys(("h", "hour"), 3600.0),
    **dict.fromkeys(("d", "day"), 86_400.0),
}
_PRINTED_PERIODS = {1.0: "s", 60.0: "min", 3600.0: "hour", 86_400.0: "day"}


@dataclass(frozen=True, slots=True)
class Rate(Scalar):
    """So many requests in so many seconds."""

    count: int
    period: float
    """Seconds."""

    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^[0-9]{1,9}/([0-9a-z.]+)$",
        "examples": ["20/min", "5/s", "100/10s"],
    }

    @classmethod
    def parse(cls, value: object) -> "Rate":
        """Read `20/min`, `5/s`, `1000/hour`, `100/10s`."""
        match = _RATE.fullmatch(value) if isinstance(value, str) else None
        if match is None or not int(match[1]):
            raise ValueError(f"{shown(value)} is not a rate: write a number and a time, such as 20/min, 5/s or 100/10s")
        try:
            period = _PERIODS.get(match[2]) or parse_duration(match[2])
        except ValueError:
            raise ValueError(f"{shown(value)} is not a rate: the time is s, min, hour, day or such as 10s") from None
        if not period:
            raise ValueError(f"{shown(value)} is not a rate: the time must be more than 0")
        return cls(int(match[1]), period)

    def __str__(self) -> str:
        return f"{self.count}/{_PRINTED_PERIODS.get(self.period) or format_duration(self.period)}"


# --- who is limited -------------------------------------------------------------------------------------------------

_KEY = re.compile(r"client_ip|api_key|(?:header|cookie|param):[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ClientKey(Scalar):
    """One thing that tells clients apart. `kind` is client_ip, api_key, header, cookie or param."""

    kind: str
    name: str = ""
    """Of the header field, the cookie or the path parameter."""

    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^(client_ip|api_key|(header|cookie|param):[^\s:]+)$",
        "examples": ["client_ip", "api_key", "header:X-User-ID", "cookie:session", "param:id"],
    }

    @classmethod
    def parse(cls, value: object) -> "ClientKey":
        """Read `client_ip`, `api_key`, `header:NAME`, `cookie:NAME` or `param:NAME`."""
        if not isinstance(value, str) or not _KEY.fullmatch(value):
            raise ValueError(
                f"{shown(value)} tells no clients apart: write client_ip, api_key, header:NAME, cookie:NAME or "
                "param:NAME (a parameter of the path)"
            )
        kind, _, name = value.partition(":")
        return cls(kind, name)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


# --- retries and fallbacks ------------------------------------------------------------------------------------------

_CAUSES = ("connect", "reset", "timeout")
_FEW_STATUSES = frozenset({408, 425})


def _read_cause(value: object) -> object:
    if value in _CAUSES:
        return str(value)
    status = int(value) if isinstance(value, Expanded) and value.isdigit() else value
    if status == 429:
        raise ValueError("429 is about one client, which has to slow down: a retry would make it worse")
    if isinstance(status, int) and not isinstance(status, bool) and (500 <= status <= 599 or status in _FEW_STATUSES):
        return status
    raise ValueError(f"{shown(value)} is nothing to retry on: write connect, reset, timeout, 408, 425 or 500 to 599")


RetryCause = Annotated[
    int | str,
    BeforeValidator(_read_cause),
    WithJsonSchema({"anyOf": [{"enum": [*_CAUSES, *sorted(_FEW_STATUSES)]}, {"minimum": 500, "maximum": 599}]}),
]
"""A status, or `connect` (no connection), `reset` (it broke before the answer was complete), `timeout`."""
MethodName = Annotated[str, Matching("[A-Z]{1,20}", "a method", "POST")]
StatusCode = Annotated[int, Field(ge=200, le=599), BeforeValidator(read_count)]
FieldName = Annotated[str, Field(min_length=1, max_length=128)]
"""A member of a JSON object."""

# --- cache ----------------------------------------------------------------------------------------------------------

_QUERY_NAME: Final = r"[A-Za-z0-9_.~:%\[\]-]{1,64}"
QueryName = Annotated[str, Matching(_QUERY_NAME, "the name of a query parameter", "suburb")]
"""As clients send it: nothing is decoded."""
VaryName = Annotated[str, Matching(r"(?!\*$)[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", "a header name", "X-Market")]
_PARAM: Final = "[A-Za-z_][A-Za-z0-9_]*"
_NOT_LONG: Final = "(?=.{1,256}$)"
_WORD: Final = rf"(?:[A-Za-z0-9_.~-]|\{{{_PARAM}\}})+"
_TAG: Final = f"{_WORD}(?::{_WORD})*"
_TAG_HELP: Final = "a tag, which is words of letters, digits, _ . ~ - and {parameters}, with one : between them"
KeyTemplate = Annotated[
    str,
    Matching(
        rf"{_NOT_LONG}(?:[!-z|~]|\{{(?:query\.{_QUERY_NAME}|{_PARAM})\}})+",
        "a key, which is text with {parameters}, {query.NAME}, {user} and {hash}",
        "property:{id}",
    ),
]
"""Text with `{parameters}` of the match, `{query.NAME}`, `{user}` and `{hash}`."""
TagTemplate = Annotated[str, Matching(_NOT_LONG + _TAG, _TAG_HELP, "property:{id}")]
"""Words with `:` between them, and `{parameters}` of the match."""
TagPattern = Annotated[str, Matching(rf"{_NOT_LONG}(?:{_TAG}(?::\*)?|\*)", _TAG_HELP, "properties:list:*")]
"""A tag; with `:*` at its end, all below it as well; `*` is all there is."""

# --- Redis ----------------------------------------------------------------------------------------------------------

_STORE_URL = re.compile(
    r"(?P<scheme>rediss?)(?:\+(?P<kind>sentinel|cluster))?://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<nodes>[^@/?#]+)(?P<path>(?:/[^/?#@]*){0,2})",
    re.ASCII,
)
_STORE_UNIX = re.compile(
    r"unix://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<path>/[^?#]+)(?:\?db=(?P<db>[0-9]{1,3}))?"
)
_NODE = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_STORE_HELP = (
    "write redis://host:6379/0, rediss://… for TLS, unix:///run/redis.sock, "
    "redis+sentinel://host:26379,host:26379/NAME or redis+cluster://host:6379,host:6379"
)
_DEFAULT_PORTS = {"single": 6379, "sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class StoreUrl(Scalar):
    """Where Redis or Valkey is. Its password never prints."""

    kind: Literal["single", "sentinel", "cluster"]
    nodes: tuple[tuple[str, int], ...] = ()
    """Host and port of the server, of the sentinels, or of some nodes of the cluster; empty for a Unix socket."""
    path: str = ""
    """The Unix socket."""
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    master: str = ""
    """The name under which the sentinels know it."""

    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "pattern": r"^(rediss?(\+(sentinel|cluster))?://.+|unix:///.+)$",
        "examples": ["redis://redis:6379/0", "redis+sentinel://s1:26379,s2:26379/main", "redis+cluster://n1:6379"],
    }

    @classmethod
    def parse(cls, value: object) -> "StoreUrl":
        """Read one of the forms of `_STORE_HELP`; messages do not repeat the value, which may hold a password."""
        if isinstance(value, str):
            if match := _STORE_UNIX.fullmatch(value):
                user, password = unquote(match["user"] or ""), unquote(match["password"] or "")
                return cls("single", path=match["path"], username=user, password=password, db=int(match["db"] or 0))
            if match := _STORE_URL.fullmatch(value):
                return cls._from_match(match)
        raise ValueError(f"this is not the URL of a Redis server: {_STORE_HELP}")

    @classmethod
    def _from_match(cls, match: re.Match[str]) -> "StoreUrl":
        kind: Any = match["kind"] or "single"
        nodes = tuple(_node(node, _DEFAULT_PORTS[kind]) for node in match["nodes"].split(","))
        parts = [part for part in match["path"].split("/") if part]
        master = ""
        if kind == "sentinel":
            if not parts:
                raise ValueError(
                    "the sentinels need the name of the server they watch: redis+sentinel://host:26379/NAME"
                )
            master = parts.pop(0)
        if parts and (kind == "cluster" or len(parts) > 1 or not re.fullmatch("[0-9]{1,3}", parts[0], re.ASCII)):
            raise ValueError(f"this is not the URL of a Redis server: {_STORE_HELP}")
        if kind == "single" and len(nodes) > 1:
            raise ValueError("several servers are redis+sentinel://… or redis+cluster://…")
        return cls(
            kind,
            nodes,
            tls=match["scheme"] == "rediss",
            username=unquote(match["user"] or ""),
            password=unquote(match["password"] or ""),
            db=int(parts[0]) if parts else 0,
            master=master,
        )

    def _dump(self, info: SerializationInfo) -> str:
        return self._text(self.password if reveals(info) else MASK)

    def __str__(self) -> str:
        return self._text(MASK)

    def _text(self, password: str) -> str:
        login = f"{self.username}:{password}@" if self.password else f"{self.username}@" if self.username else ""
        if self.path:
            return f"unix://{login}{self.path}" + (f"?db={self.db}" if self.db else "")
        scheme = "rediss" if self.tls else "redis"
        kind = "" if self.kind == "single" else f"+{self.kind}"
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        return f"{scheme}{kind}://{login}{nodes}" + "".join(f"/{part}" for part in (self.master, self.db) if part)


def _node(text: str, default_port: int) -> tuple[str, int]:
    match = _NODE.fullmatch(text)
    port = int(match["port"] or default_port) if match else 0
    if match is None or not 0 < port < 65_536:
        raise ValueError(f"this is not the URL of a Redis server: {_STORE_HELP}")
    return check_host(match["v6"] or match["name"]), port
