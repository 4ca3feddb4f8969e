"""What has changed in this process, by tag: each change outdoes every response that was being fetched before it.

No clock tells what came before what, only a count: a fill notes it before it goes to the upstream. Of a tag is kept
when it last changed at each level. Of tags that were forgotten, for want of room, is kept when any of them last did;
that then holds for every response, so that a change is never missed.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from proxy.protocol.caching.stored import Validity

MAX_TAGS: Final = 100_000
"""Tags whose changes are told apart; some 300 bytes each."""


class _Changes(NamedTuple):
    """When a tag last changed, as a count, at each level."""

    soft: int = 0
    invalid: int = 0
    gone: int = 0
    softened_at: float = 0.0
    """Unix time of the last change to SOFT."""

    def at(self, validity: Validity, sequence: int, now: float) -> "_Changes":
        """With one more change."""
        if validity is Validity.SOFT:
            return _Changes(sequence, self.invalid, self.gone, now)
        if validity is Validity.INVALID:
            return _Changes(self.soft, sequence, self.gone, self.softened_at)
        return _Changes(self.soft, self.invalid, sequence, self.softened_at)

    def merged(self, other: "_Changes") -> "_Changes":
        """The later of both at each level."""
        soft, invalid, gone = map(max, self[:3], other[:3])
        return _Changes(soft, invalid, gone, max(self.softened_at, other.softened_at))


_NONE: Final = _Changes()


class Generations:
    """The changes of the last `max_tags` tags. `sequence` counts them, so who sees it unmoved need not ask again."""

    __slots__ = ("_forgotten", "_max_tags", "_tags", "sequence")

    def __init__(self, max_tags: int = MAX_TAGS) -> None:
        self.sequence = 0
        self._max_tags = max_tags
        self._tags: OrderedDict[str, _Changes] = OrderedDict()
        """Least recently changed first."""
        self._forgotten = _NONE

    def change(self, tags: Iterable[str], validity: Validity, now: float) -> None:
        """What carries one of the tags and was noted before is of that validity at best; `now` is Unix seconds.

        The count moves on even without any tag.
        """
        self.sequence = sequence = self.sequence + 1
        if validity is Validity.VALID:
            return
        known = self._tags
        for tag in tags:
            known[tag] = known.get(tag, _NONE).at(validity, sequence, now)
            known.move_to_end(tag)
            if len(known) > self._max_tags:
                self._forgotten = self._forgotten.merged(known.popitem(last=False)[1])

    def validity(self, tags: Iterable[str], noted: int) -> tuple[Validity, float]:
        """What has become of what carries the tags since the count was `noted`, and the Unix time when it was softened.

        The time is that of the earliest tag's last softening; 0 unless the validity is SOFT.
        """
        known, worst, softened_at = self._tags.get, Validity.VALID, 0.0
        forgotten = self._forgotten
        for changes in (forgotten, *[found for tag in tags if (found := known(tag)) is not None]):
            soft, invalid, gone, at = changes
            if gone > noted:
                return Validity.GONE, 0.0
            if invalid > noted:
                worst = Validity.INVALID
            elif soft > noted and worst is not Validity.INVALID:
                softened_at = at if worst is Validity.VALID else min(softened_at, at)
                worst = Validity.SOFT
        return worst, 0.0 if worst is Validity.INVALID else softened_at

    def changed_since(self, tags: Iterable[str], noted: int) -> bool:
        """Whether anything has happened to one of the tags since the count was `noted`."""
        return noted < self.sequence and self.validity(tags, noted)[0] is not Validity.VALID

    def __len__(self) -> int:
        return len(self._tags)

    def __repr__(self) -> str:
        return f"<Generations {self.sequence}, {len(self._tags)} tags>"
