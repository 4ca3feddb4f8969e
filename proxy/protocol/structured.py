"""Serialising Structured Field Values (RFC 9651 section 4.1): items with parameters, and lists of them."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

_TOKEN: Final = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")
_KEY: Final = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_STRING: Final = re.compile(r"[\x20-\x7e]*")
_MAX_INTEGER: Final = 999_999_999_999_999


class Token(str):
    """A short word that is written without quotes."""

    __slots__ = ()


BareItem = bool | int | str


def serialize_bare(value: BareItem) -> str:
    """One value: Boolean, Integer, Token or String. Raises ValueError for what the form cannot hold."""
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise ValueError("integer has more than 15 digits")
        return str(value)
    if isinstance(value, Token):
        if not _TOKEN.fullmatch(value):
            raise ValueError("not a token")
        return value
    if not _STRING.fullmatch(value):
        raise ValueError("string has characters outside printable ASCII")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def serialize_item(value: BareItem, params: Mapping[str, BareItem] | None = None) -> str:
    """A value and its parameters; a true one is written as its key alone."""
    return serialize_bare(value) + "".join(_parameter(key, param) for key, param in (params or {}).items())


def serialize_list(members: Sequence[tuple[BareItem, Mapping[str, BareItem]]]) -> str:
    """Items in a row. An empty list has no form: its field is not sent."""
    if not members:
        raise ValueError("an empty list is not serialised")
    return ", ".join(serialize_item(value, params) for value, params in members)


def _parameter(key: str, value: BareItem) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError("not a parameter key")
    return f";{key}" if value is True else f";{key}={serialize_bare(value)}"
