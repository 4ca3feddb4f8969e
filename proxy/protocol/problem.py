"""Errors as responses: problem details (RFC 9457), Proxy-Status (RFC 9209) and the fields that go with them."""

import re
from functools import lru_cache
from math import ceil
from typing import Any, Final

import orjson

from proxy.errors import ProxyError
from proxy.protocol.structured import BareItem, Token, serialize_item

PROXY_NAME: Final = Token("tidegate")

_TYPE_PREFIX: Final = "urn:tidegate:problem:"
_MAX_RETRY_AFTER: Final = 86_400 * 365
_ZERO_WEIGHT: Final = re.compile(r";[ \t]*q=0(?:\.0{0,3})?[ \t]*(?:;|$)")


def problem_response(
    error: ProxyError, request_id: str, accept: str | None = None, received_status: int = 0
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Header fields and body that tell the client about `error`.

    The body is JSON unless `accept` rules JSON out, then one line of text. `received_status` is what the upstream
    answered, 0 for nothing.
    """
    if accept and refuses_json(accept):
        content_type, body = b"text/plain; charset=utf-8", f"{error.status} {error.title}\n".encode()
    else:
        content_type, body = b"application/problem+json", orjson.dumps(problem_details(error, request_id))
    fields = [
        (b"Content-Type", content_type),
        (b"Content-Length", b"%d" % len(body)),
        (b"Cache-Control", b"no-store"),
        (b"Proxy-Status", proxy_status(error, received_status).encode()),
    ]
    if error.retry_after is not None:
        fields.append((b"Retry-After", b"%d" % retry_after_seconds(error.retry_after)))
    if error.allow:
        fields.append((b"Allow", error.allow.encode()))
    return fields, body


def problem_details(error: ProxyError, request_id: str) -> dict[str, Any]:
    """The members of the problem object (RFC 9457 section 3)."""
    details: dict[str, Any] = {
        "type": _TYPE_PREFIX + error.slug,
        "title": error.title,
        "status": error.status,
        "detail": error.detail or error.title,
        "policy": error.policy,
        "request_id": request_id,
    }
    if error.retry_after is not None:
        details["retry_after"] = retry_after_seconds(error.retry_after)
    return details


def proxy_status(error: ProxyError, received_status: int = 0) -> str:
    """The Proxy-Status value (RFC 9209 section 2)."""
    params: dict[str, BareItem] = {"error": Token(error.token)}
    if error.detail:
        params["details"] = error.detail
    if received_status:
        params["received-status"] = received_status
    return serialize_item(PROXY_NAME, params)


def retry_after_seconds(seconds: float) -> int:
    """Whole seconds for Retry-After (RFC 9110 section 10.2.3): rounded up, from 1 to a year."""
    return ceil(min(max(seconds, 1), _MAX_RETRY_AFTER))


@lru_cache(maxsize=256)
def refuses_json(accept: str) -> bool:
    """Whether an Accept field gives JSON a weight of 0 (RFC 9110 section 12.5.1).

    A client that merely names other types still gets JSON, as section 12.4.1 allows.
    """
    weights = {}
    for member in accept.lower().split(","):
        media_range = member.partition(";")[0].strip(" \t")
        weights[media_range] = _ZERO_WEIGHT.search(member) is None
    for media_range in ("application/problem+json", "application/json", "application/*", "*/*"):
        if media_range in weights:
            return not weights[media_range]
    return False
