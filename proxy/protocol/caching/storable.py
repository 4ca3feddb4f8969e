"""Whether a response may be stored (RFC 9111 section 3), and if not, why."""

import re
from typing import Final

from proxy.protocol.caching.cache_control import members_of
from proxy.protocol.caching.directives import ResponseDirectives
from proxy.protocol.caching.lifetimes import HEURISTIC, has_expires
from proxy.protocol.caching.stored import Rules
from proxy.protocol.caching.targeted import Lines

_FIRST_FINAL: Final = 200
_PARTIAL: Final = 206
_NEVER: Final = frozenset({304, 407, 412, 416, 428, 429, 431, 500, 502, 503, 504, 511})
"""Without a body of their own; about fields that no key has; forbidden to store (RFC 6585); or a failure, which must
not take the place of what could stand in for it."""
_UNDERSTOOD: Final = (
    frozenset({*range(200, 207), *range(300, 309), *range(400, 418), 421, 422, 426, *range(500, 506)})
    - {306, 402}
    - _NEVER
)
"""Those of RFC 9110 whose rules for caches are kept here, as must-understand demands."""
_ONE_PART: Final = re.compile(rb"bytes +([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)


def refusal_of(
    method: str, status: int, request: Lines, response: Lines, directives: ResponseDirectives, rules: Rules
) -> str:
    """The first reason not to store it, a fixed word; empty if there is none."""
    if method != "GET":
        return "method"
    if status < _FIRST_FINAL or status in _NEVER or (directives.must_understand and status not in _UNDERSTOOD):
        return "status"
    if status == _PARTIAL and not _is_one_part(response):
        return "partial"
    if _says_no_store(request):
        return "request_no_store"
    refusal = _by_directives(directives, rules) or _by_fields(request, response, directives, rules)
    if refusal or _is_marked(status, response, directives, rules):
        return refusal
    return "no_freshness"


def _by_directives(directives: ResponseDirectives, rules: Rules) -> str:
    """With must-understand, no-store is for caches that do not understand the status (section 5.2.2.3)."""
    if directives.no_store and not directives.must_understand:
        return "no_store"
    return "private" if directives.private and not rules.is_private else ""


def _by_fields(request: Lines, response: Lines, directives: ResponseDirectives, rules: Rules) -> str:
    if not (rules.is_private or directives.shares_credentials):
        if b"authorization" in request:
            return "authorization"
        if b"cookie" in request:
            return "cookie"
    if b"set-cookie" in response and not rules.stores_cookies and b"set-cookie" not in directives.hidden:
        return "set_cookie"
    return ""


def _is_marked(status: int, response: Lines, directives: ResponseDirectives, rules: Rules) -> bool:
    """Whether anything of what section 3 has at its end marks it as cacheable."""
    return (
        status in HEURISTIC
        or directives.public
        or directives.max_age is not None
        or directives.s_maxage is not None
        or (directives.private and rules.is_private)
        or has_expires(response, directives)
    )


def _says_no_store(request: Lines) -> bool:
    """Section 5.2.1.5."""
    return any(name == b"no-store" for name, _ in members_of(request.get(b"cache-control", ())))


def _is_one_part(response: Lines) -> bool:
    """Whether it is a single range of bytes of a representation whose length it names (RFC 9110 section 14.4)."""
    ranges = response.get(b"content-range", ())
    match = _ONE_PART.fullmatch(ranges[0]) if len(ranges) == 1 else None
    return match is not None and int(match[1]) <= int(match[2]) < int(match[3])
