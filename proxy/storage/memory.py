"""The first level of the cache: responses in this process, by key and variant, in a bounded number of bytes.

A look-up that finds something touches no queue and asks nobody, as long as nothing has been purged since the last one.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from proxy.config.caching import CacheStoreConfig
from proxy.protocol.caching.stored import StoredResponse, Validity
from proxy.protocol.request_checks import CheckedFields
from proxy.storage.entries import MARK_BYTES, Entry, Names, Place, Variants, is_good, size_of
from proxy.storage.eviction import MAX_FREQUENCY, EvictionQueues
from proxy.storage.generations import Generations

__all__ = ["Entry", "Memory"]

Key = bytes
"""Under its own name: within Memory, `bytes` is how many there are."""

_LARGEST: Final = 4
"""A single response has at most one part in so many of the memory; the marks too."""
_STAR: Final = (b"*",)
_WITHOUT_VARY: Final[Place] = ((), b"")


class Memory:
    """At most `max_bytes` divided by `share`, and `max_entries`. `wall` gives Unix seconds.

    Every byte counts: keys, fields and the objects of the interpreter as well as bodies.
    """

    __slots__ = (
        "_keys",
        "_max_entries",
        "_oldest",
        "_passing",
        "_queues",
        "_share",
        "_wall",
        "evictions",
        "generations",
        "max_bytes",
    )

    def __init__(
        self,
        max_bytes: int,
        max_entries: int,
        generations: Generations,
        *,
        share: int = 1,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.generations = generations
        self._share = share
        self._wall = wall
        self._keys: dict[Key, Variants] = {}
        self._queues: EvictionQueues[Entry] = EvictionQueues()
        self._passing: OrderedDict[Key, float] = OrderedDict()
        self._oldest = 0
        """The count of changes before which nothing may have been noted."""
        self.max_bytes = max_bytes // share
        self._max_entries = max_entries
        self.evictions = dict.fromkeys(("capacity", "variants", "gone"), 0)
        """Responses that left without being replaced, by reason."""

    @property
    def entries(self) -> int:
        """How many responses there are."""
        return len(self._queues)

    @property
    def bytes(self) -> int:
        """How many bytes everything takes."""
        return self._queues.bytes + MARK_BYTES * len(self._passing)

    # --- looking up ---

    def find(self, key: Key, fields: CheckedFields) -> Entry | None:
        """What is stored for a request with these fields; of several the one with the latest Date.

        It may be stale, SOFT or INVALID; it is never GONE.
        """
        variants = self._keys.get(key)
        if variants is None:
            return None
        entry = variants.only
        if entry is None:
            entry = self._select(variants, fields)
            if entry is None:
                return None
        elif entry.checked != self.generations.sequence and self._is_gone(entry):
            return None
        if entry.frequency < MAX_FREQUENCY:
            entry.frequency += 1
        return entry

    def good(self, key: Key, fields: CheckedFields) -> Entry | None:
        """The last complete success that is stored for such a request, be it stale, INVALID or replaced by an error."""
        variants = self._keys.get(key)
        if variants is None:
            return None
        best = None
        for place in variants.places(fields):
            entry = variants.entries.get(place)
            if entry is None or not is_good(entry.stored):
                entry = variants.good.get(place)
            best = self._better(best, entry)
        if best is not None and best.frequency < MAX_FREQUENCY:
            best.frequency += 1
        return best

    def names(self, key: Key) -> tuple[Names, ...]:
        """The sets of request fields by which the responses of the key are told apart, as far as they are stored."""
        variants = self._keys.get(key)
        return () if variants is None else variants.sets

    def stored(self) -> list[Entry]:
        """All responses that there are now, in no order; their validity may not have been looked up lately."""
        return [entry for variants in self._keys.values() for entry in variants.all()]

    def _select(self, variants: Variants, fields: CheckedFields) -> Entry | None:
        """RFC 9111 section 4.1: one with Vary goes before one that leaves it out, unless only the latter is fresh.

        Else what an upstream has stored with Vary before it ceased to say so would hide all that came later.
        """
        best = None
        for place in variants.places(fields):
            if place[0]:
                best = self._better(best, variants.entries.get(place))
        other = self._better(None, variants.entries.get(_WITHOUT_VARY))
        if best is None or other is None:
            return best or other
        return other if self._is_fresh(other) and not self._is_fresh(best) else best

    def _is_fresh(self, entry: Entry) -> bool:
        return not entry.validity and self._wall() < entry.stored.terms.fresh_until

    def _better(self, best: Entry | None, entry: Entry | None) -> Entry | None:
        """That of the later Date (RFC 9111 section 4); `best` of two alike, for it was stored later."""
        if entry is None or (best is not None and _date_of(entry) <= _date_of(best)):
            return best
        if entry.checked != self.generations.sequence and self._is_gone(entry):
            return best
        return entry

    def _is_gone(self, entry: Entry) -> bool:
        """Whether it has been purged; it is then removed. Else its validity is that of now."""
        entry.checked = self.generations.sequence
        validity, softened_at = self.generations.validity(entry.stored.tags, entry.noted)
        if validity is Validity.GONE:
            self._drop(entry, "gone")
            return True
        if validity is not Validity.SOFT or entry.validity is not Validity.SOFT:
            entry.softened_at = softened_at  # a second time changes nothing
        entry.validity = validity
        return False

    # --- storing ---

    def put(
        self, key: Key, stored: StoredResponse, noted: int, *, max_variants: int, keeps_good: bool = False
    ) -> Entry | None:
        """Store a response, in place of what is stored for the same variant. None: it is not stored.

        `noted` is `generations.sequence` from before the upstream was asked. With `keeps_good`, a complete success
        stays beside what replaces it, as long as that is none.
        """
        size = size_of(key, stored)
        if size > self.max_bytes // _LARGEST or self._max_entries < 1 or stored.terms.vary == _STAR:
            return None
        if noted < self._oldest or self.generations.changed_since(stored.tags, noted):
            return None
        self._passing.pop(key, None)
        entry = Entry(key, stored, noted, self.generations.sequence, size, self._wall())
        self._queue(entry, self._displaced(entry, max_variants, keeps_good))
        self._keys.setdefault(key, Variants()).put(entry)
        return entry

    def _displaced(self, entry: Entry, max_variants: int, keeps_good: bool) -> Entry | None:
        """Take out what must go for a newcomer to its key; what it replaces, if anything."""
        variants = self._keys.get(entry.key)
        if variants is None:
            return None
        place = entry.place
        for crowded in variants.crowded_out(place, max_variants):
            self._drop_place(variants, crowded)
        old, last_good = variants.entries.get(place), variants.good.get(place)
        stays = keeps_good and not is_good(entry.stored)
        if stays and old is not None and is_good(old.stored):
            variants.set_aside(old)
            old = None
        elif stays:
            last_good = None
        for each in (old, last_good):
            if each is not None:
                self._drop(each)
        return old

    def _queue(self, entry: Entry, replaced: Entry | None) -> None:
        """Make room for it, before it is queued: it is not itself what goes."""
        self._make_room(entry.size, 1)
        if replaced is None:
            self._queues.add(entry)
        else:
            self._queues.succeed(replaced, entry)

    def _make_room(self, size: int, count: int) -> None:
        queues = self._queues
        while queues and self.bytes + size > self.max_bytes:
            self._evicted(queues.pop(self.max_bytes, by_bytes=True))
        while queues and len(queues) + count > self._max_entries:
            self._evicted(queues.pop(self._max_entries, by_bytes=False))

    def _evicted(self, entry: Entry) -> None:
        self.evictions["capacity"] += 1
        self._forget(entry)

    # --- removing ---

    def remove(self, entry: Entry) -> None:
        """Forget a response. One that is not there any more is not missed."""
        if self._forget(entry):
            self._queues.remove(entry)

    def drop_before(self, sequence: int) -> None:
        """Forget all that was noted before that count of changes, and store no such thing from now on."""
        self._oldest = max(self._oldest, sequence)
        for entry in self.stored():
            if entry.noted < sequence:
                self._drop(entry, "gone")

    def clear(self) -> None:
        """Forget everything, what could not be stored as well."""
        self.evictions["gone"] += len(self._queues)
        self._keys.clear()
        self._queues = EvictionQueues()
        self._passing.clear()

    def _drop_place(self, variants: Variants, place: Place) -> None:
        for entries in (variants.entries, variants.good):
            if place in entries:
                self._drop(entries[place], "variants")

    def _drop(self, entry: Entry, reason: str = "") -> None:
        self._queues.remove(entry)
        self._forget(entry)
        if reason:
            self.evictions[reason] += 1

    def _forget(self, entry: Entry) -> bool:
        """Take it out of its key's responses; whether it was there."""
        variants = self._keys.get(entry.key)
        if variants is None or not variants.discard(entry):
            return False
        if not variants:
            del self._keys[entry.key]
        return True

    # --- what cannot be stored ---

    def mark_passing(self, key: Key, until: float) -> None:
        """Remember up to a Unix time that the key's responses cannot be stored, so that nobody waits for them."""
        marks = self._passing
        marks[key] = until
        marks.move_to_end(key)
        self._trim_marks()
        self._make_room(0, 0)

    def is_passing(self, key: Key, now: float) -> bool:
        """Whether that was so, and has been lately; `now` is Unix seconds."""
        until = self._passing.get(key)
        if until is None:
            return False
        if now < until:
            return True
        del self._passing[key]
        return False

    def _trim_marks(self) -> None:
        most = min(self._max_entries, self.max_bytes // _LARGEST // MARK_BYTES)
        while len(self._passing) > most:
            self._passing.popitem(last=False)

    # --- reloads ---

    def reconfigure(self, config: CacheStoreConfig, now: float) -> str:
        """Go on with other bounds; what is beyond them goes at once."""
        max_bytes, max_entries = config.max_bytes // self._share, config.max_entries
        if (max_bytes, max_entries) == (self.max_bytes, self._max_entries):
            return ""
        before = self.entries
        self.max_bytes, self._max_entries = max_bytes, max_entries
        self._trim_marks()
        self._make_room(0, 0)
        return f"at most {max_entries} responses in {max_bytes} bytes, {before - self.entries} of {before} evicted"

    def __repr__(self) -> str:
        return f"<Memory {self.entries} of {self._max_entries} responses, {self.bytes} of {self.max_bytes} bytes>"


def _date_of(entry: Entry) -> float:
    """Its Date; one from the future would outdo all that come after it."""
    return min(entry.stored.terms.date, entry.stored_at)
