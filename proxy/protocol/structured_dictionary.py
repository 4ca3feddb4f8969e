"""Parsing Dictionaries of Structured Fields, strictly (RFC 8941 section 4.2.2)."""

import re
from collections.abc import Iterable
from typing import Final

from proxy.protocol.structured import Token

Value = bool | int | float | str | bytes | None
"""Of a member: Boolean, Integer, Decimal, String or `Token`, or Byte Sequence as written; None for an inner list."""

_BARE: Final = (
    rb"(?:\?[01]"
    rb"|-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15})(?![0-9.])"
    rb'|"(?:[ !#-\[\]-~]|\\["\\])*+"'
    rb"|:[A-Za-z0-9+/=]*+:"
    rb"|[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*+)"
)
_KEY: Final = rb"[a-z*][a-z0-9_\-.*]*+"
_PARAMETERS: Final = rb"(?:; *+%b(?:=%b)?)*+" % (_KEY, _BARE)
_INNER_LIST: Final = rb"\( *+(?:%b%b(?: ++|(?=\))))*+\)" % (_BARE, _PARAMETERS)
_MEMBER: Final = re.compile(rb"(?P<key>%b)(?:=(?:%b|(?P<bare>%b)))?%b" % (_KEY, _INNER_LIST, _BARE, _PARAMETERS))
_COMMA: Final = re.compile(rb"[ \t]*+(?:,[ \t]*+)?")
_ESCAPED: Final = re.compile(r"\\(.)")


def parse_dictionary(lines: Iterable[bytes]) -> dict[str, Value] | None:
    """The members of all lines by key, the last one where a key comes twice; None for what is no Dictionary.

    Parameters are read, and left out. An empty field is an empty Dictionary.
    """
    text = b", ".join(lines).strip(b" ")
    members: dict[str, Value] = {}
    at = 0
    while at < len(text):
        member = _MEMBER.match(text, at)
        if member is None:
            return None
        members[member["key"].decode()] = _value(member)
        comma = _COMMA.match(text, member.end())
        at = comma.end() if comma else len(text)
        if _ends_wrongly(text, member.end(), at):
            return None
    return members


def _ends_wrongly(text: bytes, end: int, at: int) -> bool:
    """Whether what follows a member is neither the end nor a comma with another member."""
    return (b"," in text[end:at]) == (at == len(text))


def _value(member: re.Match[bytes]) -> Value:
    bare = member["bare"]
    if bare is None:
        return None if member[0][len(member["key"]) :].startswith(b"=") else True
    if bare[:1] == b"?":
        return bare == b"?1"
    if bare[:1] == b":":
        return bare
    text = bare.decode()
    if text[0] == '"':
        return _ESCAPED.sub(r"\1", text[1:-1])
    if text[0].isdigit() or text[0] == "-":
        return float(text) if "." in text else int(text)
    return Token(text)
