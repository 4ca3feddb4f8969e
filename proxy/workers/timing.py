"""How often workers report, and how long they are waited for. Seconds."""

from dataclasses import dataclass

PULSE = 0.5
"""Between two reports of a worker."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The supervisor's patience."""

    start: float = 30.0
    """From the start of a process until it serves."""
    blocked: float = 2.0
    """Without a report a worker counts as blocked after this time,"""
    kill: float = 10.0
    """and is killed after this one."""
    answer: float = 1.0
    """For one answer."""
    reload: float = 5.0
    """For a new configuration to be in force."""
    last_words: float = 0.5
    """Beyond the drain."""


USUAL = Timing()
