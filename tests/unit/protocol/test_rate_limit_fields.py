"""RateLimit and RateLimit-Policy, as the draft writes them."""

import pytest

from proxy.protocol.problem import retry_after_seconds
from proxy.protocol.rate_limit_fields import RateLimitFields


@pytest.mark.parametrize(
    ("limits", "policy"),
    [
        ([(20, 60.0, 1)], b'"search";q=20;w=60'),
        ([(20, 60.0, 1), (1000, 3600.0, 1)], b'"search";q=20;w=60, "search-2";q=1000;w=3600'),
        ([(5, 1.0, 1)], b'"search";q=5;w=1'),
        ([(5, 0.5, 1)], b'"search";q=10;w=1'),
        ([(10, 2.5, 1)], b'"search";q=12;w=3'),
        ([(20, 60.0, 3)], b'"search";q=6;w=60'),
        ([(2, 60.0, 5)], b'"search";q=1;w=60'),
    ],
)
def test_policy_names_every_limit_in_requests_and_whole_seconds(
    limits: list[tuple[int, float, int]], policy: bytes
) -> None:
    assert RateLimitFields("search", limits).policy == (b"RateLimit-Policy", policy)


@pytest.mark.parametrize(
    ("reset", "seconds"), [(3.0, 3), (3.0000000001, 3), (2.001, 3), (0.2, 1), (59.9999, 60), (86_400.0, 86_400)]
)
def test_allowed_tells_what_is_left_and_when_all_is_back(reset: float, seconds: int) -> None:
    fields = RateLimitFields("search", [(20, 60.0, 1), (1000, 3600.0, 1)])

    assert fields.allowed(0, 19, reset) == (b"RateLimit", b'"search";r=19;t=%d' % seconds)
    assert fields.allowed(1, 999, reset) == (b"RateLimit", b'"search-2";r=999;t=%d' % seconds)


@pytest.mark.parametrize("wait", [0.0, 0.2, 1.0, 1.01, 59.9, 1e12])
def test_refused_names_the_second_of_retry_after(wait: float) -> None:
    fields = RateLimitFields("search", [(20, 60.0, 1)])

    assert fields.refused(0, 0, wait) == (b"RateLimit", b'"search";r=0;t=%d' % retry_after_seconds(wait))


def test_name_is_quoted_and_stands_for_itself() -> None:
    fields = RateLimitFields("100%", [(20, 60.0, 1)])

    assert fields.policy[1].startswith(b'"100%";')
    assert fields.allowed(0, 1, 1.0)[1] == b'"100%";r=1;t=1'
