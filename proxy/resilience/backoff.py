"""How long to wait before an attempt is made again: exponential, with full jitter."""

from collections.abc import Callable
from math import ldexp

_MOST_DOUBLINGS = 62
"""Far beyond every `max_delay`, and still a number that a float can hold."""


def full_jitter(attempt: int, base_delay: float, max_delay: float, random: Callable[[], float]) -> float:
    """Seconds to wait after attempt number `attempt` (from 1): U(0, min(max_delay, base_delay * 2^(attempt - 1))).

    `random` is uniform in [0, 1). Full jitter spreads those that failed together over the whole interval (AWS
    Architecture Blog, "Exponential Backoff and Jitter").
    """
    return random() * min(max_delay, ldexp(base_delay, min(attempt - 1, _MOST_DOUBLINGS)))
