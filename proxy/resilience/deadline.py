"""When an exchange and an attempt must have ended. All times are monotonic seconds; None means no limit."""


def total_deadline(started: float, total: float | None, remaining_at_caller: float | None) -> float | None:
    """The smaller of the route's total and what a trusted caller has left."""
    if remaining_at_caller is None:
        return None if total is None else started + total
    if total is None or remaining_at_caller < total:
        return started + remaining_at_caller
    return started + total


def attempt_deadline(now: float, attempt: float, deadline: float | None) -> float:
    """The end of an attempt that starts now: its own limit or the exchange's, whichever comes first."""
    own = now + attempt
    return own if deadline is None or own < deadline else deadline
