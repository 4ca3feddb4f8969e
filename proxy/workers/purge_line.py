"""Passes purges from one process to another: of one that does not listen not all are kept, but none is lost."""

from collections.abc import Sequence
from typing import Final

from proxy.protocol.caching.stored import Validity
from proxy.protocol.caching.tags import ALL
from proxy.workers.channel import Channel, NoAnswer

WITHIN: Final = 0.05
"""Seconds that the other side has to say that it has taken one."""
MAX_BACKLOG: Final = 1024 * 1024
"""Bytes that may wait for the other side; more are replaced by one purge of everything, once it takes them again."""


class PurgeLine:
    """The way to the process at the other end of `channel`, which has a handler `what` for tags and their validity."""

    def __init__(self, channel: Channel, what: str) -> None:
        self._channel = channel
        self._what = what
        self._has_overflowed = False

    async def send(self, tags: Sequence[str], validity: int, *, waits: bool = True) -> bool:
        """Whether the other side has taken it, within a moment. Who is gone has nothing that could be outdated.

        Without `waits` nobody is asked whether it was taken.
        """
        channel = self._channel
        self.catch_up()
        if self._has_overflowed or channel.backlog > MAX_BACKLOG:
            self._has_overflowed = not channel.is_gone
            return channel.is_gone
        if not waits:
            channel.tell(self._what, tags=tags, validity=validity)
            return channel.is_gone
        try:
            return bool(await channel.ask(self._what, WITHIN, tags=tags, validity=validity))
        except NoAnswer:
            return channel.is_gone

    def catch_up(self) -> None:
        """Make up for what was not sent, as soon as the other side takes messages again. To be called now and then."""
        if self._has_overflowed and not self._channel.is_backed_up:
            self._has_overflowed = False
            self._channel.tell(self._what, tags=[ALL], validity=Validity.GONE)
