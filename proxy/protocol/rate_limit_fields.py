"""The RateLimit and RateLimit-Policy fields (draft-ietf-httpapi-ratelimit-headers, in its form of two fields).

RateLimit-Policy: "search";q=20;w=60
RateLimit: "search";r=19;t=3
"""

from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from typing import Final

from proxy.protocol.problem import retry_after_seconds
from proxy.protocol.structured import BareItem, serialize_bare, serialize_list

RawField = tuple[bytes, bytes]

_UP: Final = 0.99999
"""Rounds up; what is no more than rounding is no second more."""


class RateLimitFields:
    """The fields of one route. `limits` are count, period in seconds and cost of each; figures are in requests.

    The first limit has the route's name; the others have their number as well.
    """

    __slots__ = ("_limits", "policy")

    def __init__(self, route_name: str, limits: Sequence[tuple[int, float, int]]) -> None:
        names = [route_name if index == 0 else f"{route_name}-{index + 1}" for index in range(len(limits))]
        members = [(name, _quota(*limit)) for name, limit in zip(names, limits, strict=True)]
        self.policy: RawField = (b"RateLimit-Policy", serialize_list(members).encode())
        """All limits of the route."""
        self._limits = [serialize_bare(name).replace("%", "%%").encode() + b";r=%d;t=%d" for name in names]

    def allowed(self, index: int, remaining: int, reset: float) -> RawField:
        """What is left of the limit at `index`, and in how many seconds all of it is back."""
        return _limit(self._limits[index], remaining, int(reset + _UP))

    def refused(self, index: int, remaining: int, retry_after: float) -> RawField:
        """The same for a refusal; it names the second that Retry-After does."""
        return _limit(self._limits[index], remaining, retry_after_seconds(retry_after))


@lru_cache(maxsize=4096)
def _limit(template: bytes, remaining: int, seconds: int) -> RawField:
    return b"RateLimit", template % (remaining, seconds)


def _quota(count: int, period: float, cost: int) -> dict[str, BareItem]:
    """So many requests in a window of whole seconds; the window of a limit that has none is rounded up."""
    window = max(ceil(period), 1)
    return {"q": max(int(count / cost * window / period), 1), "w": window}
