"""Arrival times of very many clients in little memory."""

import tracemalloc

import pytest

from proxy.resilience.limit_table import UNKNOWN, LimitTable

NOW = 1000.0


def key(number: int) -> bytes:
    return number.to_bytes(16)


def test_unknown_clients_have_no_arrival_time() -> None:
    assert LimitTable(10, NOW).get(b"x") == UNKNOWN


def test_advance_moves_up_to_the_ceiling() -> None:
    table = LimitTable(10, NOW)

    assert [table.advance(b"x", 2.0, 5.0, NOW) for _ in range(3)] == [2.0, 4.0, 6.0]
    assert table.get(b"x") == NOW + 4.0
    assert table.advance(b"x", 2.0, 5.0, NOW + 1) == 5.0


def test_expired_entries_go_while_others_are_written() -> None:
    table = LimitTable(10_000, NOW)
    for number in range(1000):
        table.put(key(number), NOW + 1, NOW)

    for step in range(400):
        table.put(b"alive", NOW + 100, NOW + 20 + step / 1000)

    assert len(table) == 1
    assert table.get(b"alive") == NOW + 100


def test_entries_that_count_survive_all_rounds() -> None:
    table = LimitTable(10_000, NOW)
    arrivals = {key(number): NOW + 500 + number for number in range(100)}
    for each, arrival in arrivals.items():
        table.put(each, arrival, NOW)

    for step in range(5000):
        table.put(b"busy", NOW + step, NOW + step / 20)

    assert {each: table.get(each) for each in arrivals} == arrivals


def test_entry_that_is_written_in_a_round_keeps_its_last_arrival_time() -> None:
    table = LimitTable(10_000, NOW)
    for number in range(100):
        table.put(key(number), NOW + 100, NOW)

    for number in range(100):
        table.put(key(number), NOW + 200, NOW + 30)
    for _ in range(100):
        table.put(b"busy", NOW + 300, NOW + 60)

    assert {table.get(key(number)) for number in range(100)} == {NOW + 200}


@pytest.mark.parametrize("capacity", [1, 4, 5, 100, 1000])
def test_flood_of_clients_stays_within_the_capacity(capacity: int) -> None:
    table = LimitTable(capacity, NOW)

    for number in range(5000):
        table.put(key(number), NOW + 1000, NOW)
        assert len(table) <= max(capacity, 4)

    assert table.get(key(4999)) == NOW + 1000
    assert repr(table) == f"<LimitTable {max(capacity, 4)} of {max(capacity, 4)}>"


def test_client_at_its_limit_is_remembered_through_a_flood() -> None:
    table = LimitTable(1000, NOW)
    for number in range(10):
        table.put(b"greedy %d" % number, NOW + 60, NOW)

    for number in range(100_000):
        table.put(key(number), NOW + 3, NOW)

    assert [table.get(b"greedy %d" % number) for number in range(10)] == [NOW + 60] * 10


def test_newcomer_among_the_greedy_takes_the_place_of_the_least_greedy() -> None:
    table = LimitTable(20, NOW)
    for number in range(20):
        table.put(key(number), NOW + 60 + number, NOW)

    table.put(b"newcomer", NOW + 3, NOW)

    assert table.get(b"newcomer") == NOW + 3
    assert [number for number in range(20) if table.get(key(number)) == UNKNOWN] == [0]


def test_known_client_displaces_nobody() -> None:
    table = LimitTable(100, NOW)
    for number in range(100):
        table.put(key(number), NOW + 100, NOW)

    for _ in range(1000):
        table.put(key(7), NOW + 200, NOW)

    assert [table.get(key(number)) for number in range(100)].count(NOW + 100) == 99


def test_expired_entries_make_room_before_anybody_is_displaced() -> None:
    table = LimitTable(1000, NOW)
    table.put(b"alive", NOW + 100, NOW)
    for number in range(999):
        table.put(key(number), NOW + 1, NOW)

    for number in range(500):
        table.put(b"later %d" % number, NOW + 200, NOW + 2)

    assert table.get(b"alive") == NOW + 100
    assert sum(table.get(b"later %d" % number) > 0 for number in range(500)) == 500


def test_cap_brings_all_forward() -> None:
    table = LimitTable(1000, NOW)
    for number in range(20):
        table.put(key(number), NOW + number, NOW)
    table.put(b"in a round", NOW + 50, NOW + 10.5)

    table.cap(NOW + 15)

    assert max(table.get(each) for each in (*map(key, range(20)), b"in a round")) == NOW + 15
    assert table.get(key(14)) == NOW + 14


def test_ten_times_as_many_clients_take_no_more_memory() -> None:
    table = LimitTable(10_000, NOW)
    tracemalloc.start()
    try:
        for number in range(100_000):
            table.put(key(number), NOW + 3 + number * 1e-6, NOW + number * 1e-6)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(table) == 10_000
    assert peak < 10_000 * 250
