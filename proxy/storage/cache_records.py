"""What the cache keeps in Redis, as far as its scripts read it: the head of a response, the index of those that vary.

A response is `E`, its Date and the end of its freshness (milliseconds, 13 digits each), the length of its marks (5
digits), its marks, and then what only we read. An index is `I` and lines of names, tab and variant.
"""

from typing import Any, Final, NamedTuple

from proxy.protocol.caching.stored import StoredResponse, Validity
from proxy.storage.errors import StoreError

Names = tuple[bytes, ...]

MARK: Final = 39
"""Bytes of the marks for one tag."""
MAX_SETS: Final = 8
"""Sets of names in one index."""
MAX_TAGS: Final = 1024
"""Of one response."""
_HEAD: Final = 32
_LATEST: Final = 10**13 - 1


def milliseconds(seconds: float) -> int:
    """A Unix time as it fits into 13 digits."""
    return min(max(int(seconds * 1000), 0), _LATEST)


def record_of(stored: StoredResponse, marks: bytes, entry: bytes) -> bytes:
    """The response as it is kept; `entry` is what the codec made of it."""
    terms = stored.terms
    head = b"E%013d%013d%05d" % (milliseconds(terms.date), milliseconds(terms.fresh_until), len(marks))
    return b"%b%b%b" % (head, marks, entry)


def entry_of(record: bytes, marks_length: int) -> bytes:
    """What the codec made of it."""
    return record[_HEAD + marks_length :]


def names_in(index: bytes) -> list[Names]:
    """The sets of names that an index has, each once."""
    lines = index.split(b"\n")[1:]
    return [read_names(names) for names in dict.fromkeys(line.partition(b"\t")[0] for line in lines)]


def write_names(names: Names) -> bytes:
    """A set of names as one word; field names have no commas."""
    return b",".join(names)


def read_names(word: bytes) -> Names:
    """The set again."""
    return tuple(word.split(b","))


# --- what cache_find says ---

UNKNOWN_SETS: Final = -2
NOTHING: Final = -1
"""States that are no validity."""
LEASE_TAKEN: Final = 1
LEASE_DENIED: Final = 2


class Answer(NamedTuple):
    """The answer of cache_find, which explains it."""

    state: int
    place: int
    softened: int
    value: bytes
    marks: bytes
    lease: int
    dropped: int


_TYPES: Final = [int, int, int, bytes, bytes, int, int]


def read_answer(raw: Any, sets: int) -> Answer:
    """The answer to a question with so many sets of names. Raises StoreError for what the script never says."""
    if isinstance(raw, list) and [type(each) for each in raw] == _TYPES:
        answer = Answer(*raw)
        if UNKNOWN_SETS <= answer.state < Validity.GONE and 0 <= answer.place <= sets and answer.dropped <= sets + 1:
            return answer
    raise StoreError("protocol", "the answer is not that of the script")
