"""When a worker that has ended is started again, and what its end is called."""

import signal

_FIRST = 0.5
_LONGEST = 30.0
_HEALTHY_LIFE = 60.0
_ASKED_TO_END = frozenset({0, -signal.SIGTERM, -signal.SIGKILL})


class Backoff:
    """At once after the first end, then after a wait that doubles from 0.5 s to 30 s; a life of a minute resets it."""

    def __init__(self) -> None:
        self._ends = 0

    def delay(self, lived: float) -> float:
        """Seconds to wait before the next start, after a life of `lived` seconds."""
        if lived >= _HEALTHY_LIFE:
            self._ends = 0
        self._ends += 1
        if self._ends == 1:
            return 0.0
        return min(_LONGEST, _FIRST * 2.0 ** min(self._ends - 2, 10))


def reason_of(exit_code: int) -> str:
    """`killed` when somebody else ended it (an operator, or the kernel for want of memory), `crashed` otherwise."""
    return "killed" if exit_code in _ASKED_TO_END else "crashed"
