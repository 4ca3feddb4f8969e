"""The adaptive limit: what moves it, how far, and what does not."""

import pytest

from proxy.resilience.gradient import INITIAL, SAMPLES, WINDOW, Gradient

USUAL = 0.05
STEP = 0.125
"""Seconds between windows: a little over WINDOW, and exact in binary."""


class Upstream:
    """Windows of answers for a Gradient, one after the other."""

    def __init__(self, floor: int = 4, ceiling: int = 200) -> None:
        self.now = 100.0
        self.gradient = Gradient(floor, ceiling, self.now)

    def window(self, seconds: float = USUAL, in_flight: int | None = None, *, drops: int = 0) -> float:
        """One window in which every answer took this long; by default the limit was used up. The limit after it."""
        busy = int(self.gradient.limit) if in_flight is None else in_flight
        for _ in range(SAMPLES - drops):
            self.gradient.record(seconds, busy, self.now)
        for _ in range(drops):
            self.gradient.record(1.0, busy, self.now, dropped=True)
        self.now += STEP
        self.gradient.record(seconds, busy, self.now)
        return self.gradient.limit

    def windows(self, count: int, seconds: float = USUAL, in_flight: int | None = None) -> float:
        for _ in range(count):
            self.window(seconds, in_flight)
        return self.gradient.limit


@pytest.mark.parametrize(
    ("floor", "ceiling", "initial"), [(4, 200, INITIAL), (4, 10, 10), (30, 200, 30), (50, 10, 10), (1, 1, 1)]
)
def test_limit_starts_at_twenty_within_its_bounds(floor: int, ceiling: int, initial: int) -> None:
    assert Gradient(floor, ceiling, 0.0).limit == initial


def test_limit_grows_while_the_latency_is_the_usual_one() -> None:
    upstream = Upstream()

    assert upstream.window() == pytest.approx(0.8 * 20 + 0.2 * (20 + 4))
    assert upstream.windows(300) == 200


def test_limit_shrinks_with_the_latency() -> None:
    upstream = Upstream()
    upstream.windows(30)
    before = upstream.gradient.limit

    after = upstream.window(2 * USUAL)

    assert after == pytest.approx(0.8 * before + 0.2 * (before * 0.5 + 4), rel=0.01)


def test_first_ten_windows_say_together_what_is_usual() -> None:
    upstream = Upstream()
    latencies = [0.1 + 0.01 * number for number in range(10)]

    for seconds in latencies:
        upstream.window(seconds, in_flight=1)
    mean = upstream.gradient.usual
    upstream.window(0.1, in_flight=1)

    assert mean == pytest.approx(sum(latencies) / 10)
    assert upstream.gradient.usual == pytest.approx(mean, rel=0.01)


def test_one_window_takes_no_more_than_a_tenth() -> None:
    upstream = Upstream()
    upstream.windows(50)
    before = upstream.gradient.limit

    assert upstream.window(1000 * USUAL) >= 0.9 * before


def test_limit_stays_within_its_bounds() -> None:
    upstream = Upstream(floor=6, ceiling=30)

    assert upstream.windows(100) == 30
    for _ in range(50):
        upstream.window(drops=1)
    assert upstream.gradient.limit == 6


def test_nothing_is_judged_before_a_window_has_its_time_and_its_samples() -> None:
    gradient = Gradient(4, 200, 0.0)

    for _ in range(1000):
        gradient.record(USUAL, 20, WINDOW / 2)
    assert gradient.limit == INITIAL
    gradient = Gradient(4, 200, 0.0)
    for number in range(1, SAMPLES):
        gradient.record(USUAL, 20, 10.0 * number)
    assert gradient.limit == INITIAL
    gradient.record(USUAL, 20, 200.0)
    assert gradient.limit > INITIAL


def test_nothing_happens_while_nothing_is_recorded() -> None:
    upstream = Upstream()
    before = upstream.windows(20)

    upstream.now += 86_400
    assert upstream.gradient.limit == before
    upstream.gradient.record(USUAL, 1, upstream.now)

    assert upstream.gradient.limit == before


@pytest.mark.parametrize("seconds", [USUAL / 10, USUAL, 3 * USUAL])
def test_limit_that_is_not_used_does_not_move(seconds: float) -> None:
    upstream = Upstream()
    before = upstream.windows(20)

    assert upstream.windows(100, seconds, in_flight=int(before / 2) - 1) == before


def test_limit_that_is_half_used_moves() -> None:
    upstream = Upstream()

    assert upstream.window(in_flight=10) > INITIAL


def test_much_faster_answers_raise_it_no_faster() -> None:
    upstream = Upstream()
    before = upstream.windows(30)

    assert upstream.window(USUAL / 10) == pytest.approx(before + 0.8)


def test_timeouts_take_a_tenth_once_a_window_however_many() -> None:
    upstream = Upstream()

    assert upstream.window(drops=1) == pytest.approx(18)
    assert upstream.window(drops=9) == pytest.approx(16.2)
    assert upstream.window() > 16.2


def test_single_timeout_counts_without_a_full_window() -> None:
    gradient = Gradient(4, 200, 0.0)

    gradient.record(30.0, 1, 30.0, dropped=True)

    assert gradient.limit == pytest.approx(18)
    assert gradient.usual == 0


def test_queue_before_the_upstream_does_not_pass_for_its_usual_latency() -> None:
    upstream = Upstream()
    upstream.windows(100, in_flight=12)

    for _ in range(480):  # a minute of overload: 20 at a time are worked on, the others wait before the upstream
        upstream.window(USUAL * max(1.0, upstream.gradient.limit / 20))

    assert 20 <= upstream.gradient.limit <= 27
    assert upstream.gradient.usual < 1.1 * USUAL


def test_lasting_slowdown_becomes_the_usual_latency_in_minutes() -> None:
    upstream = Upstream()
    upstream.windows(300)

    assert upstream.windows(100, 2 * USUAL) < 20
    upstream.windows(60 * 10 * 10, 2 * USUAL)

    assert upstream.gradient.limit > 20
    assert upstream.gradient.usual == pytest.approx(2 * USUAL, rel=0.2)


def test_without_load_what_is_usual_follows_in_minutes() -> None:
    upstream = Upstream()
    upstream.windows(100)

    upstream.windows(1200, 2 * USUAL, in_flight=1)

    assert upstream.gradient.usual == pytest.approx(2 * USUAL, rel=0.1)


def test_upstream_that_has_become_much_faster_is_noticed_at_once() -> None:
    upstream = Upstream()
    upstream.windows(1000, 10 * USUAL)

    upstream.windows(40)

    assert upstream.gradient.usual <= 2.3 * USUAL


def test_latency_of_nothing_is_no_division_by_zero() -> None:
    upstream = Upstream()

    assert upstream.windows(3, 0.0) > INITIAL


def test_new_bounds_keep_what_was_learned() -> None:
    upstream = Upstream()
    upstream.windows(200)
    usual = upstream.gradient.usual

    upstream.gradient.reconfigure(4, 50)
    assert upstream.gradient.limit == 50
    upstream.gradient.reconfigure(80, 100)
    assert upstream.gradient.limit == 80
    upstream.gradient.reconfigure(80, 60)
    assert upstream.gradient.limit == 60

    assert upstream.gradient.usual == usual


def test_repr_shows_what_it_knows() -> None:
    assert repr(Gradient(4, 200, 0.0)) == "<Gradient limit=20.0 usual=0.0000>"
