from typing import Any

from proxy.server.known_heads import LONGEST, KnownHeads

MESSAGE: Any = object()


def test_head_that_was_added_is_found_by_its_bytes_alone() -> None:
    heads = KnownHeads()
    added = heads.add(b"GET / HTTP/1.1\r\n\r\n", MESSAGE)

    assert heads.find(b"GET / HTTP/1.1\r\n\r\n") is added
    assert heads.find(b"GET / HTTP/1.1\r\n\r\n\r\n") is None
    assert added is not None
    assert added.message is MESSAGE
    assert added.runtime is None


def test_long_head_is_not_remembered() -> None:
    heads = KnownHeads()

    assert heads.add(b"x" * (LONGEST + 1), MESSAGE) is None
    assert heads.find(b"x" * (LONGEST + 1)) is None


def test_what_is_used_survives_any_number_of_others_in_bounded_memory() -> None:
    heads = KnownHeads()
    used = heads.add(b"used", MESSAGE)

    for number in range(5000):
        heads.add(b"%d" % number, MESSAGE)
        assert heads.find(b"used") is used

    assert heads.find(b"0") is None
    assert len(heads._recent) + len(heads._older) <= 1024


def test_nothing_is_known_after_a_clear() -> None:
    heads = KnownHeads()
    heads.add(b"one", MESSAGE)
    heads.clear()

    assert heads.find(b"one") is None
