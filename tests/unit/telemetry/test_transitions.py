"""What becomes of a breaker's transition: a line in the log, and an event for each subscriber."""

import logging

import pytest

from proxy.resilience.breaker import Transition
from proxy.telemetry.events import BreakerEvent
from proxy.telemetry.transitions import Transitions

OPENED = Transition("ml", "closed", "open", "failure_ratio", at=50.0, until=110.0)
CLOSED = Transition("ml", "half_open", "closed", "probes_succeeded", at=200.0, until=None)


def test_subscribers_get_each_transition_with_the_time_of_the_wall() -> None:
    transitions, heard = Transitions(lambda: 1_700_000_000.0), list[BreakerEvent]()
    transitions.subscribers += [heard.append, heard.append]

    transitions.reporter("shadow")(OPENED)
    transitions.reporter("enforce")(CLOSED)

    opened = BreakerEvent("ml", "shadow", "closed", "open", "failure_ratio", 60.0, 1_700_000_000.0)
    closed = BreakerEvent("ml", "enforce", "half_open", "closed", "probes_succeeded", None, 1_700_000_000.0)
    assert heard == [opened, opened, closed, closed]


def test_transition_is_a_warning_with_its_particulars(caplog: pytest.LogCaptureFixture) -> None:
    Transitions().reporter("enforce")(OPENED)
    Transitions().reporter("enforce")(CLOSED)

    opened, closed = (vars(record) for record in caplog.records)
    names = ("name", "levelname", "breaker", "mode", "from", "to", "reason")
    assert [opened[name] for name in names] == [
        "tidegate.breaker",
        "WARNING",
        "ml",
        "enforce",
        "closed",
        "open",
        "failure_ratio",
    ]
    assert opened["seconds"] == 60.0
    assert "seconds" not in closed


def test_subscriber_that_fails_harms_neither_the_breaker_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    transitions, heard = Transitions(), list[BreakerEvent]()

    def fail(event: BreakerEvent) -> None:
        raise ValueError

    transitions.subscribers += [fail, heard.append]

    transitions.reporter("enforce")(OPENED)

    assert len(heard) == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
