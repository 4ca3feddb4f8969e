"""Tags: the names under which stored responses are purged.

A declared tag is words with `:` between them, such as `property:123`; whoever purges `property` means all below it too.
An implied tag has an `=`, which no declared one can contain: nobody can pass one off as the other.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from urllib.parse import quote, unquote_to_bytes

ALL: Final = "*"
"""The tag of everything."""

PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A path parameter in a template."""
_LONGEST: Final = 128
_HASHED: Final = "%~"
"""What a hashed word begins with; an escaped one cannot."""


def escaped(value: str) -> str:
    """A parameter as one word of a tag: the upstream's reading of it, letters, digits and `_.~-`, the rest as %XX.

    A word longer than 128 characters is its hash.
    """
    if value.isascii() and value.isalnum() and len(value) <= _LONGEST:
        return value
    word = quote(unquote_to_bytes(value.encode("utf-8", "surrogateescape")), safe="")
    return word if len(word) <= _LONGEST else _HASHED + blake2b(word.encode(), digest_size=16).hexdigest()


def fill_in(template: str, params: Mapping[str, str]) -> str:
    """The tag that a template is for these parameters of the path."""
    if "{" not in template:
        return template
    parts = _parts(template)
    words = [escaped(params.get(part, "")) if index % 2 else part for index, part in enumerate(parts)]
    return "".join(words)


@lru_cache(maxsize=1024)
def _parts(template: str) -> list[str]:
    """Text and names of parameters, in turn."""
    return PLACEHOLDER.split(template)


def with_prefixes(tag: str) -> list[str]:
    """`a:b:c`, `a:b` and `a` of `a:b:c`."""
    words = tag.split(":")
    return [":".join(words[:length]) for length in range(len(words), 0, -1)]


def tag_of_pattern(pattern: str) -> str:
    """The tag whose purge hits what `pattern` means: a tag, alone or with all below it (`TAG:*`), or `*` for all.

    Placeholders are left as they are; other words may hold any character, plain or as %XX. Raises ValueError.
    """
    tag = pattern.removesuffix(":*")
    if tag == ALL:
        return ALL
    words = tag.split(":")
    if not all(words):
        raise ValueError("a tag is words with one `:` between them, such as property:123")
    if "*" in tag:
        raise ValueError("a `*` stands only at the end, after a `:`, as in properties:list:*")
    if "=" in tag:
        raise ValueError("a tag has no `=`; write %3D where a word holds one")
    return ":".join([word if "{" in word or word.startswith(_HASHED) else escaped(word) for word in words])


# --- implied tags ---------------------------------------------------------------------------------------------------


def uri_tag(digest: str) -> str:
    """Of all responses for one URI (`CacheKey.uri`)."""
    return f"uri={digest}"


def path_tag(digest: str) -> str:
    """Of all responses for one path and query (`CacheKey.path`), whatever the authority."""
    return f"path={digest}"


def route_tag(name: str) -> str:
    """Of all responses of a route."""
    return f"route={name}"


def user_tag(user: bytes) -> str:
    """Of all responses that belong to one user, given as in `KeyMaker.make`."""
    return f"user={blake2b(user, digest_size=16).hexdigest()}"
