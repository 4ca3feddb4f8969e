"""What is in memory, what it takes, and what goes first."""

import gc
import tracemalloc
from collections.abc import Callable
from random import Random
from time import thread_time

import pytest

from proxy.config.caching import CacheStoreConfig
from proxy.policies.caching.delivery import Delivery
from proxy.protocol.caching.stored import Part, StoredResponse, Validity
from proxy.protocol.request_checks import CheckedFields
from proxy.storage.entries import MARK_BYTES, MAX_SETS, size_of
from proxy.storage.generations import Generations
from proxy.storage.memory import Entry, Memory
from tests.support.clock import ManualClock
from tests.support.entries import FIELDS, NOTHING, asking, stored_response

MB = 1024 * 1024
KEY = b"k" * 16
GZIP, BR, PLAIN = asking(accept_encoding="gzip"), asking(accept_encoding="br"), asking(accept_encoding="identity")
CODING = (b"accept-encoding",)


class Site:
    """A memory, its generations and a clock."""

    def __init__(self, max_bytes: int = 64 * MB, max_entries: int = 1000, share: int = 1) -> None:
        self.clock = ManualClock(5000.0)
        self.generations = Generations()
        self.memory = Memory(max_bytes, max_entries, self.generations, share=share, wall=self.clock)

    def put(
        self, key: bytes, stored: StoredResponse, *, max_variants: int = 64, keeps_good: bool = False
    ) -> Entry | None:
        """As a fill would that began just now."""
        noted = self.generations.sequence
        return self.memory.put(key, stored, noted, max_variants=max_variants, keeps_good=keeps_good)

    def body(self, key: bytes, fields: CheckedFields = NOTHING) -> bytes | None:
        entry = self.memory.find(key, fields)
        return None if entry is None else entry.stored.body

    def good(self, key: bytes, fields: CheckedFields = NOTHING) -> bytes | None:
        entry = self.memory.good(key, fields)
        return None if entry is None else entry.stored.body

    def purge(self, tag: str, validity: Validity) -> None:
        self.generations.change([tag], validity, self.clock())


def key_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


# --- look-ups ---


def test_finds_what_was_stored() -> None:
    site = Site()
    stored = stored_response(b"one")

    entry = site.put(KEY, stored)

    assert entry is not None
    assert site.memory.find(KEY, NOTHING) is entry
    assert (entry.key, entry.stored, entry.noted, entry.validity, entry.softened_at) == (KEY, stored, 0, 0, 0.0)
    assert (entry.stored_at, entry.verified_at) == (5000.0, 5000.0)
    assert (entry.delivery, entry.refresh_at, entry.ends_at) == (None, 0.0, 0.0)
    assert site.memory.find(b"x" * 16, NOTHING) is None
    assert site.memory.good(b"x" * 16, NOTHING) is None
    assert site.memory.stored() == [entry]


def test_response_replaces_that_of_the_same_variant() -> None:
    site = Site()
    old = site.put(KEY, stored_response(b"old" * 1000))

    new = site.put(KEY, stored_response(b"new"))

    assert old is not None
    assert new is not None
    assert site.memory.find(KEY, NOTHING) is new
    assert (site.memory.entries, site.memory.bytes) == (1, new.size)
    assert sum(site.memory.evictions.values()) == 0


def test_response_that_replaces_another_has_its_hits() -> None:
    site = Site()
    site.put(KEY, stored_response(b"old"))
    for _ in range(5):
        site.memory.find(KEY, NOTHING)

    new = site.put(KEY, stored_response(b"new"))

    assert new is not None
    assert new.frequency == 3


def test_variants_are_told_apart() -> None:
    site = Site()
    site.put(KEY, stored_response(b"gzip", vary=CODING, answers=GZIP))
    site.put(KEY, stored_response(b"br", vary=CODING, answers=BR))

    assert (site.body(KEY, GZIP), site.body(KEY, BR)) == (b"gzip", b"br")
    assert site.body(KEY, PLAIN) is None
    assert site.memory.names(KEY) == (CODING,)
    assert site.memory.names(b"other") == ()


@pytest.mark.parametrize("first_date", [1000.0, 3000.0])
def test_of_several_that_vary_and_match_the_latest_date_is_chosen(first_date: float) -> None:
    site = Site()
    site.put(KEY, stored_response(b"first", date=first_date, vary=CODING, answers=GZIP))
    site.put(KEY, stored_response(b"second", date=2000.0, vary=(*CODING, b"x-other"), answers=GZIP))

    assert site.body(KEY, GZIP) == (b"first" if first_date > 2000.0 else b"second")


def test_of_several_with_one_date_the_one_stored_last_is_chosen() -> None:
    site = Site()
    site.put(KEY, stored_response(b"first", vary=CODING, answers=GZIP))
    site.put(KEY, stored_response(b"second", vary=(*CODING, b"x-other"), answers=GZIP))

    assert site.body(KEY, GZIP) == b"second"


def test_response_with_vary_is_preferred_to_a_newer_one_that_leaves_it_out() -> None:
    site = Site()
    site.put(KEY, stored_response(b"first", date=1000.0, vary=CODING, answers=GZIP))
    site.put(KEY, stored_response(b"second", date=2000.0))

    assert site.body(KEY, GZIP) == b"first"
    assert site.body(KEY, BR) == b"second"


@pytest.mark.parametrize(
    ("age", "is_purged", "chosen"), [(50, False, b"varies"), (70, False, b"plain"), (50, True, b"plain")]
)
def test_outdated_response_with_vary_does_not_hide_a_fresh_one_without(
    age: float, is_purged: bool, chosen: bytes
) -> None:
    """An upstream may cease to send Vary: what it said before must not have every request sent on."""
    site = Site()
    born = site.clock() - age
    site.put(KEY, stored_response(b"varies", born=born, vary=CODING, answers=GZIP))
    if is_purged:
        site.purge("*", Validity.SOFT)
    site.put(KEY, stored_response(b"plain", born=site.clock()))

    assert site.body(KEY, GZIP) == chosen


def test_of_two_outdated_responses_the_one_with_vary_is_chosen() -> None:
    site = Site()
    site.put(KEY, stored_response(b"varies", vary=CODING, answers=GZIP))
    site.put(KEY, stored_response(b"plain"))

    assert site.body(KEY, GZIP) == b"varies"


def test_what_varies_on_everything_is_not_stored() -> None:
    site = Site()

    assert site.put(KEY, stored_response(vary=(b"*",))) is None
    assert site.memory.entries == 0


def test_no_more_than_some_variants_are_kept_and_the_oldest_goes() -> None:
    site = Site()
    clients = [asking(user_agent=str(number)) for number in range(1000)]
    for client in clients:
        site.put(KEY, stored_response(b"x", vary=(b"user-agent",), answers=client), max_variants=5)

    kept = [client for client in clients if site.memory.find(KEY, client) is not None]
    assert kept == clients[-5:]
    assert site.memory.entries == 5
    assert site.memory.evictions == {"capacity": 0, "variants": 995, "gone": 0}


def test_variant_that_is_stored_anew_is_not_the_oldest() -> None:
    site = Site()
    for client in (GZIP, BR, GZIP, PLAIN):
        site.put(KEY, stored_response(vary=CODING, answers=client), max_variants=2)

    assert [site.body(KEY, client) is not None for client in (GZIP, BR, PLAIN)] == [True, False, True]


def test_no_more_than_eight_sets_of_names_are_looked_up_and_the_oldest_goes() -> None:
    site = Site()
    names = [f"x-{letter}" for letter in "abcdefghij"]
    for name in names:
        answers = CheckedFields([(name.encode(), b"1")])
        site.put(KEY, stored_response(name.encode(), vary=(name.encode(),), answers=answers))

    assert site.memory.names(KEY) == tuple((name.encode(),) for name in reversed(names[-MAX_SETS:]))
    found = [site.body(KEY, CheckedFields([(name.encode(), b"1")])) for name in names]
    assert found[:2] == [None, None]
    assert found[2:] == [name.encode() for name in names[2:]]


# --- purges ---


def test_purged_response_is_gone_with_all_its_bytes() -> None:
    site = Site()
    site.put(KEY, stored_response(tags=("*", "property:1")))

    site.purge("property:1", Validity.GONE)

    assert site.memory.find(KEY, NOTHING) is None
    assert (site.memory.entries, site.memory.bytes) == (0, 0)
    assert site.memory.evictions["gone"] == 1


@pytest.mark.parametrize("validity", [Validity.SOFT, Validity.INVALID])
def test_outdated_response_is_found_as_such(validity: Validity) -> None:
    site = Site()
    site.put(KEY, stored_response(tags=("*", "property:1")))
    site.purge("property:1", validity)

    entry = site.memory.find(KEY, NOTHING)

    assert entry is not None
    assert (entry.validity, entry.softened_at) == (validity, 5000.0 if validity is Validity.SOFT else 0.0)


def test_purge_of_another_tag_changes_nothing() -> None:
    site = Site()
    entry = site.put(KEY, stored_response(tags=("*", "property:1")))

    site.purge("property:2", Validity.GONE)

    assert site.memory.find(KEY, NOTHING) is entry
    assert entry is not None
    assert entry.validity is Validity.VALID
    assert entry.checked == site.generations.sequence


def test_response_softened_twice_was_softened_the_first_time() -> None:
    site = Site()
    site.put(KEY, stored_response())
    site.purge("*", Validity.SOFT)
    site.memory.find(KEY, NOTHING)
    site.clock.advance(30.0)
    site.purge("*", Validity.SOFT)

    entry = site.memory.find(KEY, NOTHING)

    assert entry is not None
    assert entry.softened_at == 5000.0


def test_softened_response_that_changes_is_invalid() -> None:
    site = Site()
    site.put(KEY, stored_response())
    site.purge("*", Validity.SOFT)
    site.memory.find(KEY, NOTHING)
    site.purge("*", Validity.INVALID)

    entry = site.memory.find(KEY, NOTHING)

    assert entry is not None
    assert (entry.validity, entry.softened_at) == (Validity.INVALID, 0.0)


@pytest.mark.parametrize("validity", [Validity.SOFT, Validity.INVALID, Validity.GONE])
def test_fill_that_began_before_a_change_does_not_store(validity: Validity) -> None:
    site = Site()
    noted = site.generations.sequence
    kept = site.put(KEY, stored_response(b"before", tags=("*", "b")))
    site.purge("a", validity)

    assert site.memory.put(KEY, stored_response(b"late", tags=("*", "a")), noted, max_variants=9) is None

    assert site.memory.find(KEY, NOTHING) is kept


def test_of_several_variants_the_purged_one_does_not_hide_another() -> None:
    site = Site()
    site.put(KEY, stored_response(b"plain", date=1000.0, tags=("*",)))
    site.put(KEY, stored_response(b"gzip", date=2000.0, vary=CODING, answers=GZIP, tags=("*", "bad")))

    site.purge("bad", Validity.GONE)

    assert site.body(KEY, GZIP) == b"plain"
    assert site.memory.names(KEY) == ((),)


def test_what_predates_a_gap_is_dropped_and_not_stored_any_more() -> None:
    site = Site()
    noted = site.generations.sequence
    site.put(b"a", stored_response())
    site.put(b"e", stored_response(status=404), keeps_good=True)
    site.generations.change([], Validity.GONE, 1.0)
    site.put(b"b", stored_response(b"after"))

    site.memory.drop_before(site.generations.sequence)

    assert (site.body(b"a"), site.body(b"b")) == (None, b"after")
    assert site.memory.entries == 1
    assert site.memory.evictions["gone"] == 2
    assert site.memory.put(b"a", stored_response(), noted, max_variants=9) is None
    assert site.put(b"a", stored_response()) is not None


def test_removed_response_is_not_missed_twice() -> None:
    site = Site()
    entry = site.put(KEY, stored_response())
    assert entry is not None
    site.memory.remove(entry)
    newer = site.put(KEY, stored_response())

    site.memory.remove(entry)

    assert site.memory.find(KEY, NOTHING) is newer
    assert site.memory.entries == 1


def test_clear_forgets_everything() -> None:
    site = Site()
    site.put(KEY, stored_response())
    site.memory.mark_passing(b"p", 9000.0)

    site.memory.clear()

    assert (site.memory.entries, site.memory.bytes) == (0, 0)
    assert site.body(KEY) is None
    assert not site.memory.is_passing(b"p", 5000.0)


# --- the last good one ---


@pytest.mark.parametrize(
    ("stored", "is_kept"),
    [
        (stored_response(b"bad", status=404), True),
        (stored_response(b"bad", status=503), True),
        (stored_response(b"bad", part=Part(0, 10)), True),
        (stored_response(b"new", status=203), False),
    ],
)
def test_success_stays_beside_what_is_none(stored: StoredResponse, is_kept: bool) -> None:
    site = Site()
    site.put(KEY, stored_response(b"good"), keeps_good=True)

    site.put(KEY, stored, keeps_good=True)

    assert site.body(KEY) == stored.body
    assert site.good(KEY) == (b"good" if is_kept else b"new")
    assert site.memory.entries == (2 if is_kept else 1)


def test_success_does_not_stay_where_nobody_asked_for_it() -> None:
    site = Site()
    site.put(KEY, stored_response(b"good"))

    site.put(KEY, stored_response(b"bad", status=404))

    assert site.good(KEY) is None
    assert site.memory.entries == 1


def test_success_stays_through_several_failures_until_the_next_success() -> None:
    site = Site()
    site.put(KEY, stored_response(b"good"), keeps_good=True)
    site.put(KEY, stored_response(b"bad", status=404), keeps_good=True)
    site.put(KEY, stored_response(b"worse", status=410), keeps_good=True)

    assert (site.body(KEY), site.good(KEY)) == (b"worse", b"good")
    site.put(KEY, stored_response(b"better"), keeps_good=True)
    assert (site.body(KEY), site.good(KEY)) == (b"better", b"better")
    assert site.memory.entries == 1


def test_newer_success_is_the_one_that_stays() -> None:
    site = Site()
    for body, status in ((b"old", 200), (b"x", 404), (b"new", 200), (b"y", 404)):
        site.put(KEY, stored_response(body, status=status), keeps_good=True)

    assert (site.body(KEY), site.good(KEY)) == (b"y", b"new")
    assert site.memory.entries == 2


def test_invalid_success_is_still_the_last_good_one_and_a_purged_one_is_not() -> None:
    site = Site()
    site.put(KEY, stored_response(b"good"), keeps_good=True)
    site.purge("*", Validity.INVALID)
    assert site.good(KEY) == b"good"
    site.put(KEY, stored_response(b"bad", status=404), keeps_good=True)
    entry = site.memory.good(KEY, NOTHING)
    assert entry is not None
    assert (entry.stored.body, entry.validity) == (b"good", Validity.INVALID)

    site.purge("*", Validity.GONE)

    assert site.good(KEY) is None
    assert site.body(KEY) is None
    assert (site.memory.entries, site.memory.bytes) == (0, 0)


def test_last_good_one_is_that_of_the_variant() -> None:
    site = Site()
    for client, body in ((GZIP, b"gzip"), (BR, b"br")):
        for status in (200, 500, 200, 500):
            stored = stored_response(body, status=status, vary=CODING, answers=client)
            site.put(KEY, stored, max_variants=2, keeps_good=True)

    assert site.memory.entries == 4
    assert (site.good(KEY, GZIP), site.good(KEY, BR), site.good(KEY, PLAIN)) == (b"gzip", b"br", None)


def test_last_good_ones_count_among_the_variants() -> None:
    site = Site()
    for number in range(20):
        client = asking(user_agent=str(number))
        for status in (200, 404):
            stored = stored_response(b"x", status=status, vary=(b"user-agent",), answers=client)
            entry = site.put(KEY, stored, max_variants=3, keeps_good=True)
        assert entry is not None
        if number % 2:
            site.memory.remove(entry)  # what is good stays alone

    assert site.memory.entries <= 6
    kept = [number for number in range(20) if site.good(KEY, asking(user_agent=str(number))) is not None]
    assert len(kept) <= 3


def test_last_good_one_is_kept_by_its_use() -> None:
    site = Site()
    site.put(KEY, stored_response(b"good"), keeps_good=True)
    site.put(KEY, stored_response(b"bad", status=404), keeps_good=True)

    for _ in range(5):
        site.good(KEY)

    entry = site.memory.good(KEY, NOTHING)
    assert entry is not None
    assert entry.frequency == 3


# --- bounds ---


def test_response_larger_than_a_quarter_is_not_stored() -> None:
    site = Site(max_bytes=400_000)

    assert site.put(KEY, stored_response(bytes(101_000))) is None
    assert site.put(KEY, stored_response(bytes(90_000))) is not None


def test_what_is_refused_replaces_nothing() -> None:
    site = Site(max_bytes=400_000)
    entry = site.put(KEY, stored_response(b"small"))

    site.put(KEY, stored_response(bytes(101_000)))

    assert site.memory.find(KEY, NOTHING) is entry


def test_newcomer_is_never_what_goes_for_it() -> None:
    site = Site(max_bytes=400_000)
    for number in range(50):
        site.put(key_of(number), stored_response(bytes(90_000)))
        assert site.body(key_of(number)) is not None
        assert site.memory.bytes <= 400_000


def test_number_of_responses_is_bounded() -> None:
    site = Site(max_entries=10)
    for number in range(100):
        site.put(key_of(number), stored_response())
        assert site.memory.entries <= 10

    assert site.memory.entries == 10
    assert site.memory.evictions["capacity"] == 90


def test_hundred_thousand_responses_of_a_megabyte_keep_within_bounds() -> None:
    site = Site(max_bytes=64 * MB, max_entries=1000)
    body = bytes(MB)
    slowest = 0.0
    for number in range(100_000):
        stored = stored_response(body)
        started = thread_time()
        site.put(key_of(number), stored)
        slowest = max(slowest, thread_time() - started)
        assert site.memory.bytes <= 64 * MB

    assert 60 <= site.memory.entries <= 63
    assert slowest < 0.2, "no single step takes long"


def test_eviction_takes_no_longer_when_everything_is_in_use() -> None:
    site = Site(max_bytes=1024 * MB, max_entries=20_000)
    keys = [key_of(number) for number in range(20_000)]
    for key in keys:
        site.put(key, stored_response())
    for key in keys * 4:
        site.memory.find(key, NOTHING)

    started = thread_time()
    for number in range(100):
        assert site.put(key_of(100_000 + number), stored_response()) is not None

    assert thread_time() - started < 1.0
    assert site.memory.entries == 20_000


@pytest.mark.parametrize("by_bytes", [False, True])
def test_scan_does_not_push_out_what_is_in_use(by_bytes: bool) -> None:
    site = Site(64 * MB, 1000) if not by_bytes else Site(1000 * size_of(KEY, stored_response()), 10**6)
    used = [key_of(number) for number in range(500)]
    for key in used:
        site.put(key, stored_response())
    for key in used * 2:
        site.memory.find(key, NOTHING)

    for number in range(20_000):
        site.put(key_of(10**6 + number), stored_response())

    assert sum(site.body(key) is not None for key in used) >= 495


def test_what_is_asked_for_again_soon_after_it_went_stays() -> None:
    site = Site(max_entries=100)
    for number in range(200):
        site.put(key_of(number), stored_response())
    gone = [key_of(number) for number in range(80, 100)]
    for key in gone:
        assert site.body(key) is None
        site.put(key, stored_response())

    for number in range(1000, 1300):
        site.put(key_of(number), stored_response())

    assert all(site.body(key) is not None for key in gone)


def test_hit_ratio_under_skewed_load_is_above_that_of_first_in_first_out() -> None:
    random = Random(7)
    weights = [1 / rank for rank in range(1, 10_001)]
    asked = random.choices(range(10_000), weights, k=60_000)
    site = Site(max_entries=500)
    stored, hits = stored_response(), 0
    plain: dict[int, None] = {}
    plain_hits = 0
    for number in asked:
        if site.memory.find(key_of(number), NOTHING) is not None:
            hits += 1
        else:
            site.put(key_of(number), stored)
        if number in plain:
            plain_hits += 1
        else:
            plain[number] = None
            if len(plain) > 500:
                del plain[next(iter(plain))]

    assert hits > plain_hits * 1.1


# --- accounting ---


def large_response(number: int, length: int) -> StoredResponse:
    """Nothing in it is shared with another."""
    text = b"%d" % number
    fields = tuple((name + text, value + text) for name, value in FIELDS * 2)
    tags = tuple(f"{tag}:{number}" for tag in ("uri", "path", "property", "properties", "properties:list", "route"))
    return stored_response(
        bytes(length),
        fields=fields,
        tags=tags,
        fill_seconds=number + 0.875,
        date=number + 0.5,
        born=number + 0.75,
        lifetime=number + 0.125,
        stale_while_revalidate=number + 0.25,
        stale_if_error=number + 0.625,
        last_modified=number + 0.375,
        etag=b'"%d"' % number,
    )


@pytest.mark.parametrize(("length", "count"), [(1024, 4000), (100 * 1024, 300)])
def test_bytes_are_what_the_interpreter_takes(length: int, count: int) -> None:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    site = Site(max_bytes=1024 * MB, max_entries=count)
    for number in range(count + count // 2):
        entry = site.put(key_of(number), large_response(number, length))
        assert entry is not None
        delivery = entry.delivery = Delivery(entry.stored)
        delivery.fresh_get(number + 1.0)
    gc.collect()

    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert site.memory.bytes == pytest.approx(taken, rel=0.15)


def test_marks_take_what_they_say() -> None:
    site = Site(max_bytes=64 * MB, max_entries=10_000)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(10_000):
        site.memory.mark_passing(key_of(number) + b"+", number + 0.5)

    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert site.memory.bytes == 10_000 * MARK_BYTES == pytest.approx(taken, rel=0.25)


# --- what cannot be stored ---


def test_mark_lasts_until_its_time() -> None:
    site = Site()
    site.memory.mark_passing(KEY, 100.0)

    assert site.memory.is_passing(KEY, 99.9)
    assert not site.memory.is_passing(b"other", 99.9)
    assert not site.memory.is_passing(KEY, 100.0)
    assert site.memory.bytes == 0


def test_mark_ends_when_something_is_stored() -> None:
    site = Site()
    site.memory.mark_passing(KEY, 100.0)

    site.put(KEY, stored_response())

    assert not site.memory.is_passing(KEY, 50.0)


def test_marks_are_bounded_and_the_oldest_go() -> None:
    site = Site(max_entries=100)
    for number in range(1000):
        site.memory.mark_passing(key_of(number), 100.0)
        site.memory.mark_passing(key_of(0), 100.0)

    assert site.memory.bytes == 100 * MARK_BYTES
    assert site.memory.is_passing(key_of(0), 50.0)
    assert site.memory.is_passing(key_of(999), 50.0)
    assert not site.memory.is_passing(key_of(1), 50.0)


def test_marks_take_their_room_from_the_responses() -> None:
    size = size_of(KEY, stored_response())
    site = Site(max_bytes=10 * size, max_entries=1000)
    for number in range(10):
        site.put(key_of(number), stored_response())
    for number in range(1000):
        site.memory.mark_passing(key_of(number), 100.0)
        assert site.memory.bytes <= 10 * size

    assert 7 <= site.memory.entries < 10


# --- reloads ---


def configured(max_bytes: int, max_entries: int) -> CacheStoreConfig:
    return CacheStoreConfig(max_bytes=max_bytes, max_entries=max_entries)


def test_reload_with_the_same_bounds_says_nothing() -> None:
    site = Site(max_bytes=4 * MB, max_entries=50, share=2)

    assert site.memory.reconfigure(configured(4 * MB, 50), 1.0) == ""
    assert site.memory.max_bytes == 2 * MB


def fewer(site: Site) -> CacheStoreConfig:
    return configured(64 * MB, 7)


def less(site: Site) -> CacheStoreConfig:
    return configured(site.memory.bytes // 2, 1000)


@pytest.mark.parametrize("narrower", [fewer, less])
def test_reload_with_less_room_evicts_at_once(narrower: Callable[[Site], CacheStoreConfig]) -> None:
    site = Site()
    for number in range(20):
        site.put(key_of(number), stored_response())
    site.memory.mark_passing(b"p", 9.0)
    config = narrower(site)

    change = site.memory.reconfigure(config, 1.0)

    assert site.memory.entries <= 10
    assert site.memory.bytes <= config.max_bytes
    evicted = 20 - site.memory.entries
    expected = f"at most {config.max_entries} responses in {config.max_bytes} bytes, {evicted} of 20 evicted"
    assert change == expected


def test_reload_with_more_room_keeps_everything() -> None:
    site = Site(max_entries=2)
    site.put(b"a", stored_response())
    site.put(b"b", stored_response())

    site.memory.reconfigure(configured(64 * MB, 3), 1.0)
    site.put(b"c", stored_response())

    assert site.memory.entries == 3


def test_shows_its_state() -> None:
    site = Site(max_bytes=100_000, max_entries=10)
    entry = site.put(b"\xab", stored_response())

    assert entry is not None
    assert repr(entry) == f"<Entry ab 200 VALID {entry.size} bytes>"
    assert repr(site.memory) == f"<Memory 1 of 10 responses, {entry.size} of 100000 bytes>"
