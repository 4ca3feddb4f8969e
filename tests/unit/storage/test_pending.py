"""What is owed to Redis: in order, bounded, and in the way of everything that could be older."""

from proxy.protocol.caching.stored import Validity
from proxy.storage.pending import Pending

SOFT, INVALID, GONE = Validity.SOFT, Validity.INVALID, Validity.GONE


def owed(pending: Pending, count: int = 100) -> list[tuple[str, Validity]]:
    return [change for change, _ in pending.first(count)]


def test_nothing_is_in_the_way_at_first() -> None:
    pending = Pending()

    assert pending.is_empty
    assert not pending.blocks(["a", "*"])
    assert (len(pending), pending.doubt) == (0, 0)


def test_purge_under_way_blocks_its_own_tags_until_all_such_have_ended() -> None:
    pending = Pending()
    pending.began(["a", "b"])
    pending.began(["b"])

    assert [pending.blocks([tag]) for tag in "abc"] == [True, True, False]
    assert pending.is_empty
    pending.ended(["a", "b"])
    assert [pending.blocks([tag]) for tag in "abc"] == [False, True, False]
    pending.ended(["b"])
    assert not pending.blocks(["a", "b", "c"])


def test_what_is_owed_blocks_everything_until_it_is_paid() -> None:
    pending = Pending()
    pending.owe(["a"], INVALID)

    assert pending.blocks(["unrelated"])
    pending.paid(pending.first(10))
    assert not pending.blocks(["a"])


def test_debts_are_paid_in_their_order_each_once() -> None:
    pending = Pending()
    pending.owe(["a", "b"], INVALID)
    pending.owe(["c"], GONE)
    pending.owe(["a"], SOFT)
    pending.owe(["a"], INVALID)

    assert owed(pending) == [("b", INVALID), ("c", GONE), ("a", SOFT), ("a", INVALID)]
    assert owed(pending, 2) == [("b", INVALID), ("c", GONE)]


def test_what_is_owed_again_while_it_is_paid_stays_owed() -> None:
    pending = Pending()
    pending.owe(["a", "b"], INVALID)
    items = pending.first(10)
    pending.owe(["a"], INVALID)
    pending.paid(items)

    assert owed(pending) == [("a", INVALID)]
    pending.paid(items)
    assert not pending.is_empty


def test_too_many_debts_become_a_purge_of_everything() -> None:
    pending = Pending(limit=3)
    pending.owe("abc", INVALID)
    assert len(pending) == 3
    pending.owe("d", INVALID)

    assert owed(pending) == [("*", GONE)]
    pending.owe("e", SOFT)
    assert owed(pending) == [("*", GONE), ("e", SOFT)]


def test_debts_that_overflow_while_they_are_paid_are_not_taken_for_paid() -> None:
    pending = Pending(limit=2)
    pending.owe("ab", INVALID)
    items = pending.first(10)
    pending.owe("c", INVALID)
    pending.paid(items)

    assert owed(pending) == [("*", GONE)]


def test_a_doubt_blocks_everything_until_that_very_doubt_is_settled() -> None:
    pending = Pending()
    pending.raise_doubt()
    first = pending.doubt
    pending.raise_doubt()

    pending.settle(first)
    assert pending.blocks(["a"])
    assert not pending.is_empty
    pending.settle(pending.doubt)
    assert not pending.blocks(["a"])
    assert repr(pending) == "<Pending 0, under way 0, doubt 0>"
