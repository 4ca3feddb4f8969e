"""The scalar types of policies.yaml: what may be written, what it becomes in code, and how it is printed back.

Every refusal is a ValueError whose message completes a sentence and shows what to write instead.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    WithJsonSchema,
    WrapSerializer,
)
from pydantic_core import CoreSchema, core_schema

from proxy.config.addresses import Authority, Cidr, HostChoice, HostName, ListenAddress, UpstreamUrl
from proxy.config.environment import Expanded
from proxy.config.quantities import ByteSize, Delay, Duration
from proxy.config.scalar import Scalar, shown

__all__ = [
    "AccessLog",
    "Authority",
    "ByteSize",
    "Cidr",
    "Count",
    "Delay",
    "Duration",
    "FilePath",
    "Flag",
    "HeaderName",
    "HeaderValue",
    "HostChoice",
    "HostName",
    "ListenAddress",
    "MatchText",
    "Name",
    "OffAble",
    "PathTemplate",
    "Secret",
    "UpstreamUrl",
    "UrlPath",
    "empty_is_none",
    "is_off",
    "read_count",
]

T = TypeVar("T")

# --- numbers, switches, off -----------------------------------------------------------------------------------------

OFF_SCHEMA: dict[str, Any] = {"enum": [False, "off", "none"]}


def is_off(value: object) -> bool:
    """Whether `value` is one of the ways to write off: `off`, `none`, and what YAML reads as false."""
    return value is False or value in ("off", "none") or (isinstance(value, Expanded) and value == "false")


def _off_to_none(value: object) -> object:
    return None if is_off(value) else value


def _print_off(value: object, inner: Callable[[Any], object]) -> object:
    return "off" if value is None else inner(value)


class _OffSchema:
    """Puts the ways to write off where pydantic's schema says null."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        inner = handler(schema)
        return {**inner, "anyOf": [OFF_SCHEMA if each == {"type": "null"} else each for each in inner["anyOf"]]}


OffAble = Annotated[T | None, BeforeValidator(_off_to_none), WrapSerializer(_print_off, when_used="json"), _OffSchema()]
"""A value, or None when the file says `off`, `none` or false."""


def read_count(value: object) -> object:
    """A whole number of the environment as such; comes last in a field's metadata, after its range."""
    if isinstance(value, Expanded) and re.fullmatch("[0-9]{1,18}", value, re.ASCII):
        return int(value)
    return value


def _read_flag(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, Expanded) else value


Count = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(read_count)]
"""A whole number from 1."""
Flag = Annotated[bool, BeforeValidator(_read_flag)]
"""`true` or `false`."""

# --- text -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Matching:
    """Metadata of a text field: the whole text must match `pattern`."""

    pattern: str
    what: str
    example: str

    def check(self, value: object) -> object:
        """`value` itself. Raises ValueError for text that does not match."""
        if isinstance(value, str) and not re.fullmatch(self.pattern, value, re.ASCII):
            raise ValueError(f"{shown(value)} is not {self.what}, such as {self.example}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{self.pattern}$", "examples": [self.example]}


Name = Annotated[
    str, Matching("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "a name of at most 64 letters, digits and _ . -", "property-write")
]
"""Of a route or an upstream: it becomes a metric label."""
MatchText = Annotated[
    str,
    Field(max_length=1024),
    WithJsonSchema(
        {"type": "string", "pattern": r"^(\*|[A-Z]+) /", "examples": ["GET /properties/{id}", "* /admin/*"]}
    ),
]
"""`METHOD /template`; the router reads the rest."""
PathTemplate = Annotated[str, Matching('/[!-"$->@-~]{0,1023}', "a path", "/v2/properties/{id}")]
"""A path without query, with `{parameters}` of the match."""
UrlPath = Annotated[str, Matching('/[!-"$-~]{0,1023}', "a path", "/health")]
"""A path that may have a query."""
FilePath = Annotated[str, Matching(r"[^\x00-\x1f\x7f]{1,4096}", "a file's path", "certs/ca.pem")]
AccessLog = Annotated[str, Matching(r"[^\x00-\x1f\x7f]{1,4096}", "stdout, stderr or a file's path", "stdout")]


def empty_is_none(value: object) -> object:
    """None for a variable of the environment that is empty."""
    return None if isinstance(value, Expanded) and not value else value


MASK = "***"


def reveals(info: SerializationInfo) -> bool:
    """Whether a dump is for the digest, which covers secrets, and not for people."""
    return bool(info.context and info.context.get("reveal"))


class Secret(Scalar):
    """Text that never prints; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    schema: ClassVar[dict[str, Any]] = {"type": "string", "minLength": 1}

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def parse(cls, value: object) -> "Secret":
        """Any text but the empty one; the message of a refusal does not repeat the value."""
        if not isinstance(value, str) or not value:
            raise ValueError("a secret must be text that is not empty: quote it")
        return cls(value)

    def reveal(self) -> str:
        """The text itself."""
        return self._value

    def _dump(self, info: SerializationInfo) -> str:
        return self._value if reveals(info) else MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"


# --- header fields --------------------------------------------------------------------------------------------------

_FIELD_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}"
_FIELD_VALUE = re.compile(r"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_MAX_FIELD_VALUE = 8190
_MANAGED_FIELDS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields of framing and of one hop (RFC 9110 section 7.6.1): what they say is the proxy's own business."""


def _check_header_name(name: str) -> str:
    if name.lower() == "host":
        raise ValueError("Host is not edited here: write `host:` on the upstream")
    if name.lower() in _MANAGED_FIELDS:
        raise ValueError(f"{shown(name)} belongs to one connection and its framing: the proxy sets it")
    return name


def _read_header_value(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a header value must be text: quote it")
    if len(value) > _MAX_FIELD_VALUE or not _FIELD_VALUE.fullmatch(value):
        raise ValueError(
            f"a header value is one line of at most {_MAX_FIELD_VALUE} ASCII or Latin-1 characters, "
            "without space at either end"
        )
    return value


def _print_header_value(value: str, info: SerializationInfo) -> str:
    return MASK if isinstance(value, Expanded) and not reveals(info) else value


HeaderName = Annotated[str, Matching(_FIELD_NAME, "a header name", "X-Api-Version"), AfterValidator(_check_header_name)]
"""A field name that a user may set or remove."""
HeaderValue = Annotated[
    str,
    PlainValidator(_read_header_value),
    PlainSerializer(_print_header_value, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string"}),
]
"""A field value; one that came from the environment is masked when printed."""
