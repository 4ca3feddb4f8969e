"""What can go wrong with Redis: one error type, with a fixed word for metrics and log."""

from typing import Final

UNREACHABLE: Final = frozenset({"timeout", "refused", "lost", "loading", "busy", "noauth", "maxclients", "protocol"})
"""The server is of no use to anybody."""
REFUSING: Final = frozenset({"oom", "readonly", "misconf", "noperm", "noreplicas", "masterdown", "clusterdown"})
"""The server answers, but takes no writes, or none from us."""


class StoreError(Exception):
    """Redis could not be asked, or did not do what it was asked.

    `outcome` is one of `UNREACHABLE` or `REFUSING`; `unavailable` (left alone for now, not tried), `no_time` (this
    exchange has no time left for it, not tried), `wrongtype` (the key holds something else) or `error`. The message may
    hold words of the server: it is for the log, not for clients.
    """

    def __init__(self, outcome: str, message: str = "") -> None:
        super().__init__(f"{outcome}: {message}" if message else outcome)
        self.outcome = outcome
