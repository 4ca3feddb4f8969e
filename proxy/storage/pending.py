"""Purges that Redis has not taken, or not yet: as long as there are any, what it has may be older than we know."""

from collections.abc import Iterable, Sequence
from typing import Final

from proxy.protocol.caching.stored import Validity
from proxy.protocol.caching.tags import ALL

LIMIT: Final = 1000
"""Tags that may be owed; more are paid by purging everything."""

Change = tuple[str, Validity]


class Pending:
    """What is owed to Redis, in the order in which it happened; purges under way; doubts about the server itself."""

    __slots__ = ("_doubt", "_limit", "_owed", "_sequence", "_settled_doubt", "_under_way")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._owed: dict[Change, int] = {}
        """By when it was last owed, as a count."""
        self._sequence = 0
        self._under_way: dict[str, int] = {}
        """How many purges of a tag have begun and not ended."""
        self._doubt = self._settled_doubt = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is owed and there is no doubt: then what Redis has is what everybody should know."""
        return not self._owed and self._doubt == self._settled_doubt

    def blocks(self, tags: Iterable[str]) -> bool:
        """Whether what Redis has for these tags may be older than what is known here."""
        if not self.is_empty:
            return True
        return bool(self._under_way) and any(tag in self._under_way for tag in tags)

    # --- purges under way ---

    def began(self, tags: Iterable[str]) -> None:
        """A purge has happened here, and Redis is about to be told."""
        for tag in tags:
            self._under_way[tag] = self._under_way.get(tag, 0) + 1

    def ended(self, tags: Iterable[str]) -> None:
        """Redis has been told, or it is owed."""
        for tag in tags:
            left = self._under_way[tag] - 1
            if left:
                self._under_way[tag] = left
            else:
                del self._under_way[tag]

    # --- what is owed ---

    def owe(self, tags: Iterable[str], validity: Validity) -> None:
        """Redis did not take a purge."""
        for tag in tags:
            self._sequence += 1
            self._owed.pop((tag, validity), None)  # it goes to the end
            self._owed[tag, validity] = self._sequence
        if len(self._owed) > self._limit:
            self._owed = {(ALL, Validity.GONE): self._sequence}

    def first(self, count: int) -> list[tuple[Change, int]]:
        """The oldest that are owed."""
        return [item for item, _ in zip(self._owed.items(), range(count), strict=False)]

    def paid(self, items: Sequence[tuple[Change, int]]) -> None:
        """Redis has taken these; what was owed once more meanwhile stays."""
        for change, sequence in items:
            if self._owed.get(change) == sequence:
                del self._owed[change]

    def __len__(self) -> int:
        return len(self._owed)

    # --- doubts ---

    @property
    def doubt(self) -> int:
        """Which doubt there is; 0: none. To be given to `settle`."""
        return 0 if self._doubt == self._settled_doubt else self._doubt

    def raise_doubt(self) -> None:
        """Behind the address may be another server by now."""
        self._doubt += 1

    def settle(self, doubt: int) -> None:
        """That doubt is over; one that came up since is not."""
        self._settled_doubt = doubt

    def __repr__(self) -> str:
        return f"<Pending {len(self._owed)}, under way {len(self._under_way)}, doubt {self.doubt}>"
