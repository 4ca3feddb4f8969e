"""What a limit forgives for the sake of floating point is less than one of its requests, however fast it is."""

import pytest

from proxy.config.policies import RateLimitConfig
from proxy.config.policy_types import Rate
from proxy.resilience.limiter import LimiterState


@pytest.mark.parametrize("rate", ["1000/s", "100000/s", "1000000/s"])
def test_fast_limit_admits_its_burst_and_no_more(rate: str) -> None:
    now = 1e6
    state = LimiterState((RateLimitConfig(rate=Rate.parse(rate), burst=3),), now)

    verdicts = [state.take((b"me",), now) for _ in range(4)]

    assert [(allowed, remaining) for allowed, _, remaining, _ in verdicts] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
    ]
