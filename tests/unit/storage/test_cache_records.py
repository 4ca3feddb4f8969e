"""What scripts read of a stored response, and what is believed of their answers."""

from typing import Any

import pytest

from proxy.protocol.caching.stored import StoredResponse, Terms
from proxy.storage.cache_records import (
    Answer,
    entry_of,
    milliseconds,
    names_in,
    read_answer,
    record_of,
    write_names,
)
from proxy.storage.errors import StoreError


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1.5, 1500), (-1.0, 0), (0.0, 0), (1e12, 10**13 - 1), (2.0**31 + 1.8e9, 3_947_483_648_000)],
)
def test_times_fit_into_thirteen_digits(seconds: float, expected: int) -> None:
    assert milliseconds(seconds) == expected


def test_a_record_has_what_scripts_compare_and_the_entry() -> None:
    stored = StoredResponse(200, b"", (), b"", Terms("", date=10.0, born=9.5, lifetime=60.0))
    record = record_of(stored, b"m" * 78, b"entry")

    assert record == b"E0000000010000" + b"0000000069500" + b"00078" + b"m" * 78 + b"entry"
    assert entry_of(record, 78) == b"entry"


def test_an_index_names_each_set_once() -> None:
    accept = (b"accept", b"origin")
    index = b"I\n%b\tff\naccept-encoding\taa\n%b\t00" % ((write_names(accept),) * 2)

    assert names_in(index) == [accept, (b"accept-encoding",)]
    assert names_in(b"I") == []


GOOD: list[Any] = [0, 0, 0, b"E", b"", 0, 0]


def test_an_answer_of_the_script_is_taken() -> None:
    assert read_answer([2, 1, 5, b"E", b"m", 2, 2], 1) == Answer(2, 1, 5, b"E", b"m", 2, 2)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"OK",
        [],
        GOOD[:-1],
        [*GOOD, 0],
        [b"0", *GOOD[1:]],
        [3, *GOOD[1:]],
        [-3, *GOOD[1:]],
        [0, 1, *GOOD[2:]],
        [0, -1, *GOOD[2:]],
        [*GOOD[:-1], 5],
        [0, 0, 0, None, b"", 0, 0],
    ],
)
def test_what_the_script_never_answers_is_a_store_error(raw: Any) -> None:
    with pytest.raises(StoreError) as caught:
        read_answer(raw, 0)
    assert caught.value.outcome == "protocol"
