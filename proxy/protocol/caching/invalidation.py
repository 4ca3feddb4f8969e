"""What an unsafe request makes outdated: its own target, and what its response points to (RFC 9111 section 4.4)."""

import re
from typing import Final

from proxy.protocol.headers import RawHeaders
from proxy.protocol.paths import remove_dot_segments

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 section 9.2.1."""
_POINTERS: Final = frozenset({b"location", b"content-location"})
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_REFERENCE: Final = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):)?(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?",
    re.DOTALL,
)
"""RFC 3986 appendix B; the query with its `?`, since an empty one is not none."""
_NOT_IN_TARGET: Final = re.compile(r"[\x00-\x20\x7f]")


def is_unsafe(method: str) -> bool:
    """Whether a request with `method` may change something; one that is not known may."""
    return method not in _SAFE


def invalidated(authority: str, scheme: str, target: str, response_fields: RawHeaders) -> list[str]:
    """Targets in origin form, without repetition: the request's own first, then those of Location and Content-Location.

    Nothing of another origin, or one site could empty the cache of another. `target` is the request's, in origin form.
    """
    own = _origin(scheme, authority)
    found = {target: None}
    for name, value in response_fields:
        if name.lower() in _POINTERS:
            reference = value.strip(b" \t").decode("utf-8", "surrogateescape")
            resolved = _resolved(reference, own, scheme, target)
            if resolved is not None:
                found[resolved] = None
    return list(found)


def _resolved(reference: str, own: tuple[str, str], scheme: str, target: str) -> str | None:
    """The origin form of what `reference` means at `target` (RFC 3986 section 5.2.2); None: elsewhere, or no URI."""
    parts = _REFERENCE.fullmatch(reference)
    if parts is None or _NOT_IN_TARGET.search(reference):
        return None
    if parts["scheme"] is not None or parts["authority"] is not None:
        if parts["authority"] is None or _origin(parts["scheme"] or scheme, parts["authority"]) != own:
            return None
        return remove_dot_segments(parts["path"] or "/") + (parts["query"] or "")
    path, mark, query = target.partition("?")
    if not parts["path"]:
        return path + (mark + query if parts["query"] is None else parts["query"])
    folder = "" if parts["path"].startswith("/") else path[: path.rindex("/") + 1]
    return remove_dot_segments(folder + parts["path"]) + (parts["query"] or "")


def _origin(scheme: str, authority: str) -> tuple[str, str]:
    """Scheme, and host with port where it is not the default (RFC 9110 section 4.3.1)."""
    scheme = scheme.lower()
    host = authority.rpartition("@")[2].lower()
    return scheme, host.removesuffix(_DEFAULT_PORTS.get(scheme, ":")).removesuffix(":")
