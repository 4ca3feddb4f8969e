"""One response in memory, and the responses of one key: told apart by Vary, and what is kept of them beside."""

from collections import OrderedDict
from collections.abc import Iterator
from sys import getsizeof
from typing import Any, Final

from proxy.protocol.caching.stored import StoredResponse, Terms, Validity
from proxy.protocol.caching.vary import variant_of
from proxy.protocol.request_checks import CheckedFields

Names = tuple[bytes, ...]
"""Request fields that tell responses apart, in lower case and sorted."""
Place = tuple[Names, bytes]
"""What tells a response from the others of its key: those names, and the digest of their values."""

MAX_SETS: Final = 8
"""Different sets of names for one key."""


class Entry:
    """A response in memory. Times are Unix seconds."""

    __slots__ = (
        "checked",
        "delivery",
        "ends_at",
        "frequency",
        "identity",
        "is_main",
        "key",
        "noted",
        "place",
        "refresh_at",
        "size",
        "softened_at",
        "stored",
        "stored_at",
        "validity",
        "verified_at",
    )

    def __init__(self, key: bytes, stored: StoredResponse, noted: int, checked: int, size: int, now: float) -> None:
        self.key = key
        self.stored = stored
        self.noted = noted
        """The count of changes when its fill went to the upstream."""
        self.checked = checked
        """The count of changes when its validity was looked up last."""
        self.size = size
        """Bytes that it takes, with all that goes with it."""
        self.place: Place = (stored.terms.vary, stored.variant)
        self.validity = Validity.VALID
        self.softened_at = 0.0
        """When it was purged softly, first; 0 unless the validity is SOFT."""
        self.stored_at = now
        self.verified_at = now
        """When it was known to be current: until then no change elsewhere can have been missed."""
        self.delivery: Any = None
        """What a hit needs, worked out by whoever stores it."""
        self.refresh_at = 0.0
        """Up to when it is sent without a further thought; set by whoever stores it."""
        self.ends_at = 0.0
        """The end of its freshness, possibly brought forward; set by whoever stores it."""
        self.frequency = 0
        self.is_main = False
        self.identity = hash((key, self.place))

    def __repr__(self) -> str:
        return f"<Entry {self.key.hex()} {self.stored.status} {self.validity.name} {self.size} bytes>"


def is_good(stored: StoredResponse) -> bool:
    """Whether a fallback may do with it when nothing else is left: a success, and all of it."""
    return 200 <= stored.status < 300 and stored.part is None


class Variants:
    """The responses of one key."""

    __slots__ = ("entries", "good", "only", "sets")

    def __init__(self) -> None:
        self.entries: dict[Place, Entry] = {}
        """What is stored now, the oldest first."""
        self.good: dict[Place, Entry] = {}
        """What was replaced by something less good."""
        self.only: Entry | None = None
        """The one response, where it answers every request."""
        self.sets: tuple[Names, ...] = ()
        """By what names the responses are told apart, those of the newest first."""

    def put(self, entry: Entry) -> None:
        """Store it as the newest; what was in its place is out already."""
        self.entries[entry.place] = entry
        self._settle()

    def discard(self, entry: Entry) -> bool:
        """Take it out of wherever it is; whether it was there."""
        for entries in (self.entries, self.good):
            if entries.get(entry.place) is entry:
                del entries[entry.place]
                self._settle()
                return True
        return False

    def set_aside(self, entry: Entry) -> None:
        """Keep it as what was good last, in place of what was before."""
        del self.entries[entry.place]
        self.good[entry.place] = entry
        self._settle()

    def crowded_out(self, place: Place, max_variants: int) -> list[Place]:
        """The places that have to be given up before a response comes to `place`: the oldest."""
        others = [each for each in self._places() if each != place]
        sets = [each for each in self.sets if each != place[0]][: MAX_SETS - 1]
        kept = [each for each in others if each[0] in sets or each[0] == place[0]]
        surplus = max(len(kept) + 1 - max_variants, 0)
        return [each for each in others if each not in kept[surplus:]]

    def _places(self) -> list[Place]:
        """All places, the oldest first."""
        return [*[place for place in self.good if place not in self.entries], *self.entries]

    def _settle(self) -> None:
        """Work out what a look-up needs."""
        places = self._places()
        self.sets = tuple(dict.fromkeys([names for names, _ in reversed(places)]))
        self.only = self.entries.get(((), b"")) if len(places) == 1 else None

    def places(self, fields: CheckedFields) -> Iterator[Place]:
        """Where there may be something for a request with these fields, what is newest first."""
        for names in self.sets:
            yield names, variant_of(names, fields.raw)

    def all(self) -> list[Entry]:
        """Everything, what is no longer current too."""
        return [*self.entries.values(), *self.good.values()]

    def __bool__(self) -> bool:
        return bool(self.entries or self.good)


# --- how much memory ---


def _aligned(size: int) -> int:
    """What the allocator takes for an object."""
    return (size + 15) & ~15


_BYTES: Final = getsizeof(b"")
_TEXT: Final = getsizeof("")
_FLOAT: Final = _aligned(getsizeof(1.5))
_INT: Final = _aligned(getsizeof(1 << 60))
_POINTER: Final = 8
_TUPLE: Final = getsizeof(())
_PAIR: Final = _aligned(getsizeof((b"", b"")))
_QUEUED: Final = getsizeof(OrderedDict.fromkeys(range(1000))) // 1000
_MAPPED: Final = getsizeof(dict.fromkeys(range(1000))) // 1000
_DELIVERY: Final = 768
"""What is worked out for its hits, beside a copy of the head."""
MARK_BYTES: Final = _aligned(_BYTES + 17) + _FLOAT + _QUEUED
"""What it takes to remember that the responses of a key cannot be stored."""


def _fixed() -> int:
    """Bytes that every entry takes: itself, its key's and its places in the queues, as if it had a key of its own."""
    terms = Terms("")
    stored = StoredResponse(200, b"", (), b"", terms)
    entry = Entry(b"", stored, 0, 0, 0, 0.0)
    variants = Variants()
    variants.put(entry)
    objects = (entry, stored, terms, variants, variants.entries, variants.good, variants.sets, entry.place)
    numbers = 6 * _FLOAT + 3 * _FLOAT + 3 * _INT
    ghost = _QUEUED + _INT
    return sum(_aligned(getsizeof(each)) for each in objects) + numbers + _MAPPED + _QUEUED + ghost + _DELIVERY


def size_of(key: bytes, stored: StoredResponse) -> int:
    """Bytes that a response takes in memory: its body, its head twice, its tags, its key and every object for it."""
    terms = stored.terms
    text = (key, stored.body, stored.reason, stored.variant, terms.etag, *terms.vary)
    size = _FIXED + sum([_aligned(_BYTES + len(each)) for each in text if each])
    size += _aligned(_TUPLE + _POINTER * len(stored.fields)) + _aligned(_TUPLE + _POINTER * len(stored.tags))
    for name, value in stored.fields:
        size += _PAIR + _aligned(_BYTES + len(name)) + _aligned(_BYTES + len(value)) + len(name) + len(value) + 4
    for tag in stored.tags:
        size += _aligned(_TEXT + len(tag))
    return size


_FIXED: Final = _fixed()
