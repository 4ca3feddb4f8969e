"""What the admin listener shows of the cache, and what can be done to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from proxy.policies.caching.warming import WarmProgress

SelectionKind = Literal["url", "tag", "pattern", "user", "route", "all"]
SELECTION_KINDS: tuple[SelectionKind, ...] = get_args(SelectionKind)
Warming = Literal["started", "running", "off"]

NO_CACHE = "No route has a cache."
NO_ANSWER = "No worker answers."


@dataclass(frozen=True, slots=True)
class Purged:
    """What came of a purge."""

    tags: tuple[str, ...] = ()
    level: str = "hard"
    """`hard`: it is not used any more; `soft`: it has become stale."""
    complete: bool = False
    """Whether everybody who shares the cache has taken it; who has not is told as soon as that is possible."""
    problem: str = ""
    """Why nothing was purged; empty when something was."""


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The cache of one process as /cache shows it."""

    entries: int
    max_entries: int
    bytes: int
    max_bytes: int
    """Of this process."""
    redis: bool
    """Whether responses are shared."""
    gap_for: float | None
    """Seconds since when word of changes elsewhere does not get through; None: it does."""
    pending: int
    """Changes that Redis has not taken yet."""
    warm: WarmProgress | None
    """None: nothing is said about warming."""
    worker: int | None = None
    """Whose it is, where there are several: each worker has its own memory."""


@dataclass(frozen=True, slots=True)
class EntryStatus:
    """One stored response. Times are seconds."""

    status: int
    age: int
    fresh_for: float
    """Negative: since when it is stale."""
    validity: str
    """`valid`, `soft` (purged softly, so stale), or `invalid` (used only once the upstream has validated it)."""
    size: int
    """Bytes: in memory everything included, in Redis of the body alone."""
    level: str
    """Where it was found: `memory`, or for a whole URL also `redis`, and there what a plain request would get."""
    vary: tuple[str, ...]
    """The request fields that tell it from others of its URL."""
    tags: tuple[str, ...]
    worker: int | None = None


@dataclass(frozen=True, slots=True)
class EntryReport:
    """What is stored for one URL."""

    route: str = ""
    key: str = ""
    """Readable."""
    reason: str = ""
    """Why nothing is stored; empty when something is."""
    entries: tuple[EntryStatus, ...] = field(default=())


class CacheView(Protocol):
    """The cache of the running process, or of all its workers."""

    async def purge(self, kind: SelectionKind, values: Sequence[str], *, soft: bool) -> Purged:
        """Purge in this process at once, and everywhere else as far as it can be reached.

        There is one value, none for `all`; for `user` one for each thing that tells users apart.
        """
        ...

    async def caches(self) -> list[CacheStatus]:
        """One for each process that answers; none when no route has a cache."""
        ...

    async def cache_entry(self, url: str) -> EntryReport:
        """What is stored for a path, under any authority, or for a whole URL."""
        ...

    async def warm(self) -> Warming:
        """Fetch again what the file says."""
        ...
