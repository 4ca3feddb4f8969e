"""The memory gives what a plain list of all that was ever stored would give, or nothing, and keeps its bounds."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.config.caching import CacheStoreConfig
from proxy.protocol.caching.stored import StoredResponse, Validity
from proxy.protocol.caching.vary import variant_of
from proxy.protocol.request_checks import CheckedFields
from proxy.storage.entries import MARK_BYTES, size_of
from proxy.storage.generations import Generations
from proxy.storage.memory import Entry, Memory
from tests.support.clock import ManualClock
from tests.support.entries import asking, stored_response

KEYS = [bytes([number]) * 16 for number in range(6)]
CLIENTS = [asking(accept_encoding=coding, user_agent=agent) for coding in ("gzip", "br") for agent in ("a", "b")]
VARY = [(), (b"accept-encoding",), (b"user-agent",), (b"accept-encoding", b"user-agent")]
TAGS = ["*", "a", "b", "a:1", "a:2"]
SMALL, LARGE = b"x", bytes(3000)
UNIT = size_of(KEYS[0], stored_response(SMALL))

keys = st.sampled_from(KEYS)
clients = st.sampled_from(CLIENTS)
tags = st.sets(st.sampled_from(TAGS[1:])).map(lambda some: ("*", *sorted(some)))
levels = st.sampled_from([Validity.SOFT, Validity.INVALID, Validity.GONE])


@dataclass(eq=False)
class Put:
    """One response that was stored, as the reference sees it."""

    key: bytes
    stored: StoredResponse
    noted: int
    validity: Validity = Validity.VALID
    softened_at: float = 0.0
    is_current: bool = True
    """Not replaced by another of its variant."""
    is_good: bool = False
    """Set aside when it was replaced, or current and a success."""
    is_lost: bool = False
    """Seen to be away: nothing brings it back."""

    def matches(self, client: CheckedFields) -> bool:
        return self.stored.variant == variant_of(self.stored.terms.vary, client.raw)


class MemoryMachine(RuleBasedStateMachine):
    """Fills of any age, look-ups, purges, gaps and reloads in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1000.0)
        self.generations = Generations(max_tags=4)
        self.limits = (40 * UNIT, 12)
        self.memory = Memory(*self.limits, self.generations, wall=self.clock)
        self.puts: list[Put] = []
        self.changes: list[tuple[int, frozenset[str], Validity, float]] = []
        self.begun = [0]
        """Counts that fills have noted which have not ended."""
        self.oldest = 0
        self.marks: dict[bytes, float] = {}

    # --- what happens ---

    @rule()
    def begin_fill(self) -> None:
        self.begun.append(self.generations.sequence)

    @rule(
        data=st.data(),
        key=keys,
        client=clients,
        vary=st.sampled_from(VARY),
        tags=tags,
        status=st.sampled_from([200, 200, 404]),
        body=st.sampled_from([SMALL, SMALL, LARGE]),
        keeps_good=st.booleans(),
        max_variants=st.sampled_from([2, 64]),
    )
    def end_fill(
        self,
        data: st.DataObject,
        key: bytes,
        client: CheckedFields,
        vary: tuple[bytes, ...],
        tags: tuple[str, ...],
        status: int,
        body: bytes,
        keeps_good: bool,
        max_variants: int,
    ) -> None:
        noted = data.draw(st.sampled_from([self.generations.sequence, *self.begun]))
        date = data.draw(st.integers(0, 5)) + 0.5
        stored = stored_response(body, status=status, tags=tags, vary=vary, answers=client, date=date)

        entry = self.memory.put(key, stored, noted, max_variants=max_variants, keeps_good=keeps_good)

        outdated = any(count > noted and changed & set(tags) for count, changed, _, _ in self.changes)
        if outdated or noted < self.oldest or size_of(key, stored) > self.limits[0] // 4:
            assert entry is None
            return
        if entry is None:
            # Only what was forgotten among the changes may refuse more than that.
            assert len(self.generations) == 4
            assert self.generations.changed_since(tags, noted)
            return
        self.replaced(key, stored, status == 200, keeps_good)
        self.puts.append(Put(key, stored, noted, is_good=status == 200))
        self.marks.pop(key, None)
        assert self.memory.find(key, client) is not None

    def replaced(self, key: bytes, stored: StoredResponse, is_good: bool, keeps_good: bool) -> None:
        place = (stored.terms.vary, stored.variant)
        for put in self.puts:
            if put.key == key and (put.stored.terms.vary, put.stored.variant) == place:
                if is_good or not keeps_good:
                    put.is_good = False
                elif put.is_current and put.is_good:
                    for other in self.puts:
                        same = other.key == key and (other.stored.terms.vary, other.stored.variant) == place
                        if same and other is not put:
                            other.is_good = False
                put.is_current = False

    @rule(tags=st.sets(st.sampled_from(TAGS), max_size=3), level=levels)
    def change(self, tags: set[str], level: Validity) -> None:
        self.generations.change(sorted(tags), level, self.clock())
        self.changes.append((self.generations.sequence, frozenset(tags), level, self.clock()))

    @rule(seconds=st.sampled_from([0.5, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def end_gap(self) -> None:
        self.generations.change((), Validity.GONE, self.clock())
        self.oldest = self.generations.sequence
        self.memory.drop_before(self.oldest)

    @rule()
    def clear(self) -> None:
        self.memory.clear()
        self.puts.clear()
        self.marks.clear()
        assert (self.memory.entries, self.memory.bytes) == (0, 0)

    @precondition(lambda self: self.memory.entries)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(sorted(self.memory.stored(), key=lambda each: (each.key, each.place))))
        self.memory.remove(entry)
        self.memory.remove(entry)
        for put in self.puts:
            put.is_lost = put.is_lost or put.stored is entry.stored

    @rule(key=keys, seconds=st.sampled_from([1.0, 20.0]))
    def mark(self, key: bytes, seconds: float) -> None:
        self.memory.mark_passing(key, self.clock() + seconds)
        self.marks[key] = self.clock() + seconds

    @rule(key=keys)
    def look_for_mark(self, key: bytes) -> None:
        if self.memory.is_passing(key, self.clock()):
            assert self.marks[key] > self.clock()

    @rule(units=st.sampled_from([8, 20, 40]), entries=st.sampled_from([1, 3, 12]))
    def reload(self, units: int, entries: int) -> None:
        limits = (units * UNIT, entries)
        config = CacheStoreConfig(max_bytes=limits[0], max_entries=entries)
        assert bool(self.memory.reconfigure(config, self.clock())) is (limits != self.limits)
        self.limits = limits

    # --- what is found ---

    @rule(key=keys, client=clients)
    def find(self, key: bytes, client: CheckedFields) -> None:
        entry = self.memory.find(key, client)
        candidates = self.candidates(key, client, lambda put: put.is_current)
        if entry is None:
            assert not any(self.is_there(put) for put in candidates if self.outlook(put)[0] is not Validity.GONE)
        else:
            self.check(entry, candidates)

    @rule(key=keys, client=clients)
    def find_good(self, key: bytes, client: CheckedFields) -> None:
        entry = self.memory.good(key, client)
        candidates = self.candidates(key, client, lambda put: put.is_good)
        if entry is not None:
            assert entry.stored.status == 200
            self.check(entry, candidates)

    def candidates(self, key: bytes, client: CheckedFields, condition: object) -> list[Put]:
        assert callable(condition)
        return [put for put in self.puts if put.key == key and put.matches(client) and condition(put)]

    def is_there(self, put: Put) -> bool:
        return any(entry.stored is put.stored for entry in self.memory.stored())

    def check(self, entry: Entry, candidates: list[Put]) -> None:
        (found,) = [put for put in candidates if put.stored is entry.stored]
        assert not found.is_lost
        assert found.noted >= self.oldest
        validity, softened_at = self.outlook(found)
        assert entry.validity >= validity
        assert entry.validity is not Validity.GONE
        if len(self.changes_of_tags()) <= 4:
            assert entry.validity is validity
            if validity is Validity.SOFT:
                assert 0.0 < entry.softened_at <= softened_at
        assert (entry.validity is Validity.SOFT) is (entry.softened_at > 0.0)
        # One with Vary may go before a newer one without: of its own kind it is the newest.
        alike = [put for put in candidates if bool(put.stored.terms.vary) == bool(entry.stored.terms.vary)]
        newest = max(put.stored.terms.date for put in alike if self.is_there(put))
        assert entry.stored.terms.date == newest

    def changes_of_tags(self) -> set[str]:
        return {tag for _, changed, _, _ in self.changes for tag in changed}

    def outlook(self, put: Put) -> tuple[Validity, float]:
        """The worst change since, and the last softening."""
        hits = [each for each in self.changes if each[0] > put.noted and each[1] & set(put.stored.tags)]
        worst = max((level for _, _, level, _ in hits), default=Validity.VALID)
        return worst, max((at for _, _, level, at in hits if level is Validity.SOFT), default=0.0)

    # --- what always holds ---

    @invariant()
    def bounds_are_kept(self) -> None:
        assert self.memory.bytes <= self.limits[0]
        assert self.memory.entries <= self.limits[1]

    @invariant()
    def every_byte_is_counted_once(self) -> None:
        entries = self.memory.stored()
        marks = len(self.memory._passing) * MARK_BYTES
        assert self.memory.entries == len(entries) == len({id(entry) for entry in entries})
        assert self.memory.bytes == sum(size_of(entry.key, entry.stored) for entry in entries) + marks
        assert all(variants for variants in self.memory._keys.values())

    @invariant()
    def nothing_is_there_that_was_not_stored(self) -> None:
        known = {id(put.stored) for put in self.puts if put.is_current or put.is_good}
        assert all(id(entry.stored) in known for entry in self.memory.stored())

    @invariant()
    def nothing_leaves_without_a_reason(self) -> None:
        if self.memory.evictions["capacity"] or self.memory.evictions["variants"] or len(self.changes_of_tags()) > 4:
            return
        there = {id(entry.stored) for entry in self.memory.stored()}
        for put in self.puts:
            if (put.is_current or put.is_good) and not put.is_lost and put.noted >= self.oldest:
                assert id(put.stored) in there or self.outlook(put)[0] is Validity.GONE

    def teardown(self) -> None:
        """Whatever happened before: a purge of everything leaves nothing."""
        self.generations.change(["*"], Validity.GONE, self.clock())
        for key in KEYS:
            for client in CLIENTS:
                assert self.memory.find(key, client) is None
                assert self.memory.good(key, client) is None
        self.memory.reconfigure(CacheStoreConfig(max_bytes=2048, max_entries=1), self.clock())
        self.memory.drop_before(self.generations.sequence)
        assert self.memory.entries == 0


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
