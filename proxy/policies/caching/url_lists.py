"""Reads URLs from what an upstream lists them in: JSON, a sitemap, or lines of text."""

import html
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import orjson

_LOC: Final = re.compile(r"</?(?:\w{1,32}:)?loc(?:\s[^>]{0,256})?>")
"""Divides a sitemap into what is between addresses and what is in them, in turn."""
_CDATA: Final = re.compile(r"<!\[CDATA\[|\]\]>")
_URL: Final = re.compile(r"/(?!/)|https?://[^/?#\s]", re.IGNORECASE)
_LINKS: Final = ("url", "href", "path")
"""Names under which an object says where it is itself."""
_LONGEST_ID: Final = 256


def listed_urls(body: bytes, source: str) -> Iterator[str]:
    """The URLs in `body`, absolute or as paths, in its order; anything else in it is passed over.

    In JSON these are all texts that are URLs, and the `id` of each object in the outermost lists that has no URL of its
    own, as well as bare ids: `/properties/7` for the 7 of `source`, which is `/properties?sort=views`.
    """
    text = body.lstrip(b"\xef\xbb\xbf \t\r\n")
    match text[:1]:
        case b"{" | b"[":
            yield from _in_json(text, source.partition("?")[0].rstrip("/"))
        case b"<":
            pieces = _LOC.split(text.decode("utf-8", "replace"))
            yield from _urls(html.unescape(_CDATA.sub("", piece)) for piece in pieces[1::2])
        case _:
            yield from _urls(iter(text.decode("utf-8", "replace").splitlines()))


def _urls(texts: Iterator[str]) -> Iterator[str]:
    return (text for text in (each.strip() for each in texts) if _URL.match(text))


# --- JSON ---


def _in_json(text: bytes, base: str) -> Iterator[str]:
    try:
        root = orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    if isinstance(root, list):
        for item in root:
            yield from _in_item(item, base, may_be_id=True)
        return
    for value in root.values():
        if isinstance(value, list):
            for item in value:
                yield from _in_item(item, base, may_be_id=False)
        else:
            yield from _in_value(value)


def _in_item(item: Any, base: str, *, may_be_id: bool) -> Iterator[str]:
    """The URLs in an element of a list; by its id, if it does not say any other."""
    is_object = isinstance(item, dict)
    identity = (item.get("id") if is_object else item) if is_object or may_be_id else None
    if _is_id(identity) and not (is_object and any(_is_url(item.get(name)) for name in _LINKS)):
        yield f"{base}/{quote(str(identity), safe='')}"
    yield from _in_value(item)


def _in_value(value: Any) -> Iterator[str]:
    """All texts in it that are URLs, however deep."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += reversed(each.values())
        elif isinstance(each, list):
            waiting += reversed(each)
        elif _is_url(each):
            yield each


def _is_url(value: object) -> bool:
    return isinstance(value, str) and _URL.match(value) is not None


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= _LONGEST_ID and not _is_url(value)
    return isinstance(value, int) and not isinstance(value, bool)
