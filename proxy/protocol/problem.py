"""Errors as responses: problem details (RFC 9457), Proxy-Status (RFC 9209) and the fields that go with them."""

import re
from functools import lru_cache
from math import ceil
from typing import Any, Final, cast

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
    as_text = bool(accept) and refuses_json(accept or "")
    fields, body = _template(cast("Any", type(error)), error.detail, error.allow, received_status, as_text)
    if error.retry_after is None:
        if not as_text:
            body = b'%b,"request_id":"%b"}' % (body, request_id.encode())
        return [*fields, *error.fields, (b"Content-Length", b"%d" % len(body))], body
    seconds = b"%d" % retry_after_seconds(error.retry_after)
    if not as_text:
        body = b'%b,"retry_after":%b,"request_id":"%b"}' % (body, seconds, request_id.encode())
    return [*fields, (b"Retry-After", seconds), *error.fields, (b"Content-Length", b"%d" % len(body))], body


@lru_cache(maxsize=1024)
def _template(
    kind: Any, detail: str, allow: str, received_status: int, as_text: bool
) -> tuple[tuple[tuple[bytes, bytes], ...], bytes]:
    """Fields, and the body without what differs each time: under load the same refusal is made again and again."""
    error = kind.__new__(kind)
    ProxyError.__init__(error, detail, allow=allow)
    if as_text:
        content_type, body = b"text/plain; charset=utf-8", f"{error.status} {error.title}\n".encode()
    else:
        content_type, body = b"application/problem+json", orjson.dumps(_details(error)).removesuffix(b"}")
    fields = [
        (b"Content-Type", content_type),
        (b"Cache-Control", b"no-store"),
        (b"Proxy-Status", proxy_status(error, received_status).encode()),
    ]
    if allow:
        fields.append((b"Allow", allow.encode()))
    return tuple(fields), body


def _details(error: ProxyError) -> dict[str, Any]:
    """The members of the problem object (RFC 9457 section 3) that are the same for all errors like this one."""
    return {
        "type": _TYPE_PREFIX + error.slug,
        "title": error.title,
        "status": error.status,
        "detail": error.detail or error.title,
        "policy": error.policy,
    }


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
