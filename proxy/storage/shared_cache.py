"""The second level of the cache: what all instances have stored, in Redis, with the leases of who fetches the rest.

One script call looks a response up, judges it by the generations of its tags and takes the lease; one stores it, if no
generation has changed since. Neither ever fails: without Redis nothing is found, nothing is stored, and nobody waits.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from proxy.exchange import Exchange
from proxy.protocol.caching.stored import StoredResponse, Validity
from proxy.protocol.caching.vary import variant_of
from proxy.protocol.headers import RawHeaders
from proxy.storage.cache_codec import MAX_BODY, BadEntry, decode, encode
from proxy.storage.cache_keys import CacheKeys
from proxy.storage.cache_records import (
    LEASE_DENIED,
    LEASE_TAKEN,
    MARK,
    MAX_SETS,
    MAX_TAGS,
    NOTHING,
    UNKNOWN_SETS,
    Answer,
    Names,
    entry_of,
    milliseconds,
    names_in,
    read_answer,
    record_of,
    write_names,
)
from proxy.storage.errors import StoreError
from proxy.storage.leases import Leases
from proxy.storage.pending import Pending
from proxy.storage.script import load_script
from proxy.telemetry.cache_instruments import CacheStoreMetrics

if TYPE_CHECKING:
    from proxy.storage.redis import Redis

T = TypeVar("T")

_FIND: Final = load_script("cache_find", reads_only=True)  # its writes may fail
_PUT: Final = load_script("cache_put")
_DROP: Final = load_script("cache_drop")

ALONE: Final = b"-"
"""The lease of who need not wait: there is nobody to share the work with."""

_FILL_LIFE: Final = 600.0
"""Seconds within which a fill must be stored: for as long a generation lives that nothing was stored with yet."""
_SPARE_LIFE: Final = 60.0
"""Seconds that a generation outlives what is stored with it; what outlives its generation is lost, no more."""
_LONGEST: Final = 400 * 86_400.0
_LARGEST: Final = MAX_BODY + 2**20
_LARGE_BODY: Final = 128 * 1024
_LARGE_ENTRY: Final = 32 * 1024
"""Bytes from which on packing a body, and unpacking an entry, which may be compressed, are not for the event loop."""
_QUESTIONS: Final = 3
_JITTER: Final = 0.1
_OUTCOMES: Final = {Validity.VALID: "hit", Validity.SOFT: "stale", Validity.INVALID: "stale"}


class Found(NamedTuple):
    """What the second level says about a request. `validity` and `softened_at` (Unix) are those of `stored`.

    What is not VALID must not get into memory as it is: there it would pass for VALID.
    """

    stored: StoredResponse | None
    validity: Validity = Validity.VALID
    softened_at: float = 0.0
    marks: bytes = b""
    """What `put` needs; empty: what is fetched now cannot be stored here."""
    lease: bytes = b""
    """To be given back by `release`. Empty: another instance is fetching it, or no lease was asked for or needed."""


class _Question(NamedTuple):
    """What is looked for."""

    key: bytes
    fields: RawHeaders
    tags: Sequence[str]
    exchange: Exchange | None
    token: bytes
    lease: float


class SharedCache:
    """`prefix` begins the names of all keys; `random` gives numbers in [0, 1), `wall` Unix seconds.

    `pending` is what is still owed by the one before: a reload pays no debts.
    """

    def __init__(
        self,
        redis: "Redis",
        *,
        prefix: str,
        compress_above: int | None,
        random: Callable[[], float],
        wall: Callable[[], float],
        metrics: CacheStoreMetrics,
        pending: Pending | None = None,
    ) -> None:
        self._redis = redis
        self._compress_above = compress_above
        self._random = random
        self._wall = wall
        self._metrics = metrics
        self.keys = CacheKeys(f"{prefix}:cache".encode())
        self._leases = Leases(redis, self.keys, metrics)
        self.pending = Pending() if pending is None else pending
        """While this blocks a tag, nothing that carries it is read or stored."""
        self.on_doubt: Callable[[], None] | None = None
        """Called when Redis was gone: what comes back may be another server, or know less than it did."""

    # --- find ---

    async def find(
        self,
        key: bytes,
        names: tuple[Names, ...],
        fields: RawHeaders,
        tags: Sequence[str],
        exchange: Exchange | None,
        *,
        lease: float = 0.0,
    ) -> Found:
        """What is stored for a request with these fields; never raises StoreError.

        `names` are the sets of field names by which responses of the key are known to vary. With a `lease` of so many
        seconds, whoever gets nothing fresh gets the lease too, or learns by an empty one that another holds it.
        """
        if not self._redis.is_available or self.pending.blocks(tags):
            self._metrics.shared_ended("find", self._why_not())
            return Found(None, lease=ALONE)
        token = secrets.token_hex(8).encode() if lease > 0 else b""
        question = _Question(key, fields, tags, exchange, token, lease)
        try:
            found, outcome = await self._search(question, [each for each in names if each])
        except StoreError as error:
            found, outcome = Found(None, lease=token or ALONE), "error"  # it may have been taken
            if error.outcome in ("lost", "refused"):
                self._doubt()
        except BaseException:  # cancelled: nobody is left to give it back
            if token:
                self._leases.release_later(key, token)
            raise
        if self.pending.blocks(tags):  # purged meanwhile: this may be from before
            found, outcome = Found(None, lease=found.lease), "pending"
        self._metrics.shared_ended("find", outcome)
        return found

    def _why_not(self) -> str:
        """Why Redis is not asked, in a word."""
        if self._redis.is_available:
            return "pending"
        self._doubt()
        return "unavailable"

    def _doubt(self) -> None:
        if self.on_doubt is not None and not self.pending.doubt:
            self.on_doubt()

    async def _search(self, question: _Question, sets: list[Names]) -> tuple[Found, str]:
        for _ in range(_QUESTIONS):
            answer = await self._ask(question, sets)
            if answer.state == UNKNOWN_SETS:
                sets = await self._merged(question, sets, answer.value)
            elif answer.state == NOTHING:
                return Found(None, marks=answer.marks, lease=_lease(answer, question.token)), "miss"
            else:
                names = sets[answer.place - 1] if answer.place else ()
                stored = await self._read(question, names, answer)
                if stored is not None:
                    return self._found(stored, answer, question.token)
        return Found(None, lease=ALONE), "error"

    async def _ask(self, question: _Question, sets: list[Names]) -> Answer:
        key, tags, keys = question.key, question.tags, self.keys
        variants = [keys.variant(key, variant_of(each, question.fields)) for each in sets]
        answer = await self._redis.run(
            _FIND,
            (keys.response(key), keys.lease(key), *keys.generations(tags), *variants),
            (
                len(tags),
                secrets.token_bytes(16),
                round(_FILL_LIFE * 1000),
                _LARGEST,
                question.token,
                max(round(question.lease * 1000), 1),
                milliseconds(self._wall()),
                *map(write_names, sets),
            ),
            question.exchange,
        )
        checked = read_answer(answer, len(sets))
        for _ in range(checked.dropped):
            self._metrics.shared_ended("find", "bad")
        return checked

    async def _merged(self, question: _Question, sets: list[Names], index: bytes) -> list[Names]:
        """With the sets that the index has beside. An index that no instance has written is deleted."""
        listed = names_in(index)
        if len(listed) > MAX_SETS:
            await self._drop(question, self.keys.response(question.key))
            return sets
        return list(dict.fromkeys((*sets, *listed)))

    async def _read(self, question: _Question, names: Names, answer: Answer) -> StoredResponse | None:
        """The response, if it is that which was asked for; else it is deleted."""
        entry = entry_of(answer.value, MARK * len(question.tags))
        variant = variant_of(names, question.fields)
        try:
            stored = await _off_loop(len(entry) >= _LARGE_ENTRY, lambda: decode(question.key, entry, self._wall()))
        except BadEntry:
            stored = None
        if stored is not None and (stored.terms.vary, stored.variant, stored.tags) == (
            names,
            variant,
            tuple(question.tags),
        ):
            return stored
        name = self.keys.variant(question.key, variant) if names else self.keys.response(question.key)
        await self._drop(question, name)
        return None

    def _found(self, stored: StoredResponse, answer: Answer, token: bytes) -> tuple[Found, str]:
        validity = Validity(answer.state)
        softened_at = self._wall() - answer.softened / 1000 if validity is Validity.SOFT else 0.0
        found = Found(stored, validity, softened_at, answer.marks, _lease(answer, token))
        return found, _OUTCOMES[validity]

    async def _drop(self, question: _Question, name: bytes) -> None:
        self._metrics.shared_ended("find", "bad")
        await self._redis.run(_DROP, (name,), (), question.exchange)

    # --- put ---

    async def put(self, key: bytes, stored: StoredResponse, marks: bytes, keep: float) -> bool:
        """Store a response for about `keep` seconds, unless one of its tags has changed since the marks were taken.

        Whoever waits for the key is woken. False: it was not stored, and the lease may be held still. Never raises
        StoreError.
        """
        outcome = await self._put(key, stored, marks, keep)
        if outcome in ("stored", "outdated"):  # the lease has ended, whoever had it
            self._leases.let_go(key)
        self._metrics.shared_ended("put", outcome)
        return outcome == "stored"

    async def _put(self, key: bytes, stored: StoredResponse, marks: bytes, keep: float) -> str:
        tags, vary = stored.tags, stored.terms.vary
        if len(marks) != MARK * len(tags) or not tags or not (keep > 0 and isfinite(keep)):
            return "unmarked"
        if len(stored.body) > MAX_BODY or len(tags) > MAX_TAGS:
            return "too_large"
        if not self._redis.is_available or self.pending.blocks(tags):
            return self._why_not()
        entry = await _off_loop(
            len(stored.body) >= _LARGE_BODY, lambda: encode(key, stored, compress_above=self._compress_above)
        )
        life = min(keep * (1 - _JITTER + 2 * _JITTER * self._random()), _LONGEST)
        names = [self.keys.response(key), self.keys.lease(key), *self.keys.generations(tags)]
        try:
            answer = await self._redis.run(
                _PUT,
                [*names, self.keys.variant(key, stored.variant)] if vary else names,
                (
                    len(tags),
                    marks,
                    record_of(stored, marks, entry),
                    max(round(life * 1000), 1),
                    round((life + _SPARE_LIFE) * 1000),
                    write_names(vary),
                    stored.variant.hex(),
                    self.keys.wakes,
                    key,
                ),
            )
        except StoreError:
            return "error"
        return "stored" if answer == 1 else "outdated"

    # --- leases ---

    async def wait(self, key: bytes, limit: float) -> bool:
        """Wait until the lease of the key has ended, for `limit` seconds at most; whether it has.

        Whoever waited then looks again. False also when Redis cannot be asked: then whoever waited fetches it alone.
        """
        return await self._leases.wait(key, limit)

    def wake(self, key: bytes) -> None:
        """A lease has ended, says a message."""
        self._leases.wake(key)

    def hold(self, key: bytes, lease: bytes, life: float) -> None:
        """Have a lease of `life` seconds renewed until it is given back, or what was fetched is stored."""
        if lease and lease != ALONE:
            self._leases.hold(key, lease, life)

    async def release(self, key: bytes, lease: bytes) -> None:
        """Give a lease back that nothing came of; whoever waits is woken. Never raises StoreError."""
        if lease and lease != ALONE:
            await self._leases.release(key, lease)


def _lease(answer: Answer, token: bytes) -> bytes:
    if not token or answer.lease == LEASE_DENIED:
        return b""
    if answer.lease == LEASE_TAKEN:
        return token
    return ALONE if answer.lease else b""


async def _off_loop(is_much: bool, work: Callable[[], T]) -> T:
    """What `work` returns; where there is much to do, another thread does it."""
    return await asyncio.to_thread(work) if is_much else work()
