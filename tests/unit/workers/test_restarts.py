"""When a worker that has ended is started again."""

import signal

import pytest

from proxy.workers.restarts import Backoff, reason_of


def test_first_end_is_followed_by_a_start_at_once() -> None:
    assert Backoff().delay(lived=5.0) == 0.0


def test_wait_doubles_up_to_thirty_seconds_while_lives_are_short() -> None:
    backoff = Backoff()

    assert [backoff.delay(lived=1.0) for _ in range(10)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_wait_stays_at_its_longest_for_as_long_as_it_takes() -> None:
    backoff = Backoff()

    assert [backoff.delay(lived=0.0) for _ in range(5000)][-1] == 30.0


def test_life_of_a_minute_makes_the_next_start_immediate() -> None:
    backoff = Backoff()
    for _ in range(4):
        backoff.delay(lived=1.0)

    assert [backoff.delay(lived=60.0), backoff.delay(lived=59.9)] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (0, "killed"),
        (-signal.SIGTERM, "killed"),
        (-signal.SIGKILL, "killed"),
        (1, "crashed"),
        (-signal.SIGSEGV, "crashed"),
        (-signal.SIGABRT, "crashed"),
    ],
)
def test_end_is_named_after_who_caused_it(exit_code: int, reason: str) -> None:
    assert reason_of(exit_code) == reason
