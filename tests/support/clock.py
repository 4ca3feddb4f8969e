"""Time that passes when a test says so."""


class ManualClock:
    """A monotonic clock in seconds, as pure code takes it: `clock()`; `advance()` is the only thing that moves it."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back")
        self.now += seconds
