"""The sliding window: what it counts, and when it forgets."""

from random import Random

import pytest

from proxy.resilience.window import SLICES, Window


def counts(window: Window) -> tuple[int, int, int]:
    return window.calls, window.failures, window.slow


def test_every_attempt_is_counted_with_what_became_of_it() -> None:
    window = Window(30.0, 0.0)

    window.record(0.0, failed=False, slow=False)
    window.record(0.1, failed=True, slow=False)
    window.record(0.2, failed=False, slow=True)
    window.record(0.3, failed=True, slow=True)

    assert counts(window) == (4, 2, 2)


@pytest.mark.parametrize(("at", "left"), [(29.9, 2), (30.0, 1), (30.9, 1), (31.0, 0), (1e6, 0)])
def test_attempts_leave_with_their_slice(at: float, left: int) -> None:
    window = Window(30.0, 0.0)
    window.record(0.5, failed=True, slow=True)
    window.record(1.5, failed=True, slow=True)

    window.advance(at)

    assert counts(window) == (left, left, left)


def test_slice_that_was_skipped_counts_nothing() -> None:
    window = Window(30.0, 0.0)
    window.record(0.5, failed=True, slow=False)

    window.record(15.5, failed=False, slow=False)
    window.record(35.0, failed=False, slow=False)

    assert counts(window) == (2, 0, 0)


def test_clear_forgets_and_begins_anew() -> None:
    window = Window(30.0, 0.0)
    window.record(29.0, failed=True, slow=True)

    window.clear(29.5)

    assert counts(window) == (0, 0, 0)
    window.record(30.0, failed=False, slow=False)
    window.advance(29.5 + 29.9)
    assert counts(window) == (1, 0, 0)


@pytest.mark.parametrize("length", [0.001, 1.0, 30.0, 86_400.0])
def test_totals_are_those_of_a_list_of_all_attempts(length: float) -> None:
    random = Random(length)
    window, now = Window(length, 1000.0), 1000.0
    attempts: list[tuple[float, bool, bool]] = []

    for _ in range(3000):
        now += length * random.choice([0.0, 0.001, 0.01, 0.05, 0.3]) * random.random()
        failed, slow = random.random() < 0.3, random.random() < 0.2
        window.record(now, failed=failed, slow=slow)
        attempts.append((now, failed, slow))

        # Within a slice of the border either is right.
        surely = [each for each in attempts if each[0] > now - length * (1 - 1.001 / SLICES)]
        perhaps = [each for each in attempts if each[0] >= now - length * 1.001]
        assert len(surely) <= window.calls <= len(perhaps)
        assert sum(each[1] for each in surely) <= window.failures <= sum(each[1] for each in perhaps)
        assert sum(each[2] for each in surely) <= window.slow <= sum(each[2] for each in perhaps)
        attempts = perhaps


def test_repr_shows_the_totals() -> None:
    window = Window(30.0, 0.0)
    window.record(0.0, failed=True, slow=False)

    assert repr(window) == "<Window 30s calls=1 failures=1 slow=0>"
