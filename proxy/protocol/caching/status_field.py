"""Values of Cache-Status: what this cache did with a request (RFC 9211 section 2)."""

from functools import lru_cache
from typing import Final

from proxy.protocol.problem import PROXY_NAME
from proxy.protocol.structured import BareItem, Token, serialize_item

_REASONS: Final = frozenset({"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"})
"""Section 2.2."""


@lru_cache(maxsize=4096)
def hit(ttl: int, detail: str = "") -> bytes:
    """Answered from what was stored, with `ttl` seconds of freshness left, below 0 when stale."""
    return _serialize({"hit": True, "ttl": ttl}, detail)


@lru_cache(maxsize=1024)
def forwarded(
    reason: str, *, status: int = 0, stored: bool = False, collapsed: bool = False, detail: str = ""
) -> bytes:
    """Went to the upstream for `reason`, a word of section 2.2; ValueError for any other.

    `status` is what the upstream answered if the client was sent something else, or 0; `collapsed`: together with
    another request.
    """
    if reason not in _REASONS:
        raise ValueError(f"{reason!r} is no reason that RFC 9211 knows")
    params: dict[str, BareItem] = {"fwd": Token(reason)}
    if status:
        params["fwd-status"] = status
    if stored:
        params["stored"] = True
    if collapsed:
        params["collapsed"] = True
    return _serialize(params, detail)


def _serialize(params: dict[str, BareItem], detail: str) -> bytes:
    return serialize_item(PROXY_NAME, {**params, "detail": detail} if detail else params).encode()
