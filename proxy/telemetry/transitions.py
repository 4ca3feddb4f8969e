"""What the breakers report: a line in the log for each transition, and whoever else wants to know."""

import logging
from collections.abc import Callable
from time import time

from proxy.resilience.breaker import Transition
from proxy.telemetry.events import BreakerEvent

log = logging.getLogger("tidegate.breaker")

Subscriber = Callable[[BreakerEvent], None]


class Transitions:
    """Makes an event of each transition, with the time of the wall, and hands it to log and subscribers."""

    def __init__(self, wall: Callable[[], float] = time) -> None:
        self._wall = wall
        self.subscribers: list[Subscriber] = []
        """Called in order, within the exchange that caused the transition: they must be quick."""

    def reporter(self, mode: str) -> Callable[[Transition], None]:
        """What a breaker of that mode reports to."""
        return lambda transition: self._report(transition, mode)

    def _report(self, transition: Transition, mode: str) -> None:
        seconds = None if transition.until is None else transition.until - transition.at
        event = BreakerEvent(
            breaker=transition.breaker,
            mode=mode,
            before=transition.before,
            state=transition.to,
            reason=transition.reason,
            seconds=seconds,
            at=self._wall(),
        )
        _write(event)
        for subscriber in self.subscribers:
            try:
                subscriber(event)
            except Exception:
                log.exception("Bug: a subscriber of the breakers' transitions has failed")


def _write(event: BreakerEvent) -> None:
    details: dict[str, object] = {
        "breaker": event.breaker,
        "mode": event.mode,
        "from": event.before,
        "to": event.state,
        "reason": event.reason,
    }
    if event.seconds is not None:
        details["seconds"] = round(event.seconds, 3)
    log.warning("a breaker has changed its state", extra=details)
