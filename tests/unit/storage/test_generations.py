"""What has changed by tag, and that no change is missed."""

import tracemalloc

import pytest

from proxy.protocol.caching.stored import Validity
from proxy.storage.generations import Generations

SOFT, INVALID, GONE = Validity.SOFT, Validity.INVALID, Validity.GONE
LEVELS = (SOFT, INVALID, GONE)


def test_nothing_has_changed_at_first() -> None:
    generations = Generations()

    assert generations.sequence == 0
    assert generations.validity(["a", "b"], 0) == (Validity.VALID, 0.0)
    assert not generations.changed_since(["a"], 0)


@pytest.mark.parametrize("level", LEVELS)
def test_change_concerns_what_was_noted_before(level: Validity) -> None:
    generations = Generations()
    before = generations.sequence

    generations.change(["a"], level, 50.0)

    assert generations.validity(["x", "a"], before)[0] is level
    assert generations.changed_since(["a"], before)
    assert generations.validity(["a"], generations.sequence) == (Validity.VALID, 0.0)
    assert not generations.changed_since(["a"], generations.sequence)


def test_change_concerns_its_tags_alone() -> None:
    generations = Generations()

    generations.change(["a", "b"], GONE, 50.0)

    assert generations.validity(["c"], 0) == (Validity.VALID, 0.0)
    assert generations.validity([], 0) == (Validity.VALID, 0.0)
    assert not generations.changed_since(["c"], 0)


def test_count_moves_with_every_change_and_without_tags_too() -> None:
    generations = Generations()

    counts = []
    for tags, level in ((["a"], SOFT), (["a", "b"], INVALID), ([], GONE), (["a"], Validity.VALID)):
        generations.change(tags, level, 1.0)
        counts.append(generations.sequence)

    assert counts == [1, 2, 3, 4]
    assert generations.validity(["a", "b"], 2) == (Validity.VALID, 0.0)


@pytest.mark.parametrize("first", LEVELS)
@pytest.mark.parametrize("second", LEVELS)
@pytest.mark.parametrize("tags", [("a", "a"), ("a", "b"), ("b", "a")])
def test_worst_of_all_changes_counts_whatever_their_order(
    first: Validity, second: Validity, tags: tuple[str, str]
) -> None:
    generations = Generations()

    generations.change([tags[0]], first, 1.0)
    generations.change([tags[1]], second, 2.0)

    assert generations.validity(["a", "b"], 0)[0] is max(first, second)


def test_worse_change_of_before_is_outlived_by_what_was_noted_after_it() -> None:
    generations = Generations()
    generations.change(["a"], GONE, 1.0)
    noted = generations.sequence
    generations.change(["a"], SOFT, 2.0)

    assert generations.validity(["a"], noted) == (SOFT, 2.0)
    assert generations.validity(["a"], noted - 1) == (GONE, 0.0)


def test_softened_at_is_the_earliest_of_several_tags() -> None:
    generations = Generations()
    generations.change(["a"], SOFT, 5.0)
    generations.change(["b"], SOFT, 9.0)

    assert generations.validity(["a", "b"], 0) == (SOFT, 5.0)
    assert generations.validity(["b", "a"], 0) == (SOFT, 5.0)
    assert generations.validity(["a", "b"], 1) == (SOFT, 9.0)


@pytest.mark.parametrize("level", [INVALID, GONE])
def test_softened_at_is_for_soft_alone(level: Validity) -> None:
    generations = Generations()
    generations.change(["a"], SOFT, 5.0)
    generations.change(["b"], level, 6.0)

    assert generations.validity(["a", "b"], 0) == (level, 0.0)
    assert generations.validity(["b", "a"], 0) == (level, 0.0)


# --- bounds ---


@pytest.mark.parametrize("level", LEVELS)
def test_change_that_is_forgotten_concerns_everything_noted_before_it(level: Validity) -> None:
    generations = Generations(max_tags=2)
    generations.change(["a"], level, 7.0)
    after = generations.sequence
    generations.change(["b"], SOFT, 8.0)
    generations.change(["c"], SOFT, 9.0)

    assert len(generations) == 2
    assert generations.validity(["a"], 0)[0] is level
    assert generations.validity(["anything"], 0)[0] is level
    assert generations.validity(["anything"], after) == (Validity.VALID, 0.0)


def test_tags_that_change_often_are_not_those_that_are_forgotten() -> None:
    generations = Generations(max_tags=3)
    for number in range(20):
        generations.change(["often"], SOFT, float(number))
        generations.change([f"once:{number}"], SOFT, float(number))
    generations.change(["often"], GONE, 99.0)
    generations.change(["last"], SOFT, 99.0)

    assert generations.validity(["often"], generations.sequence - 2) == (GONE, 0.0)
    assert generations.validity(["other"], generations.sequence - 2) == (Validity.VALID, 0.0)


def test_single_change_of_too_many_tags_is_bounded_and_misses_none() -> None:
    generations = Generations(max_tags=10)

    generations.change([f"t{number}" for number in range(100)], INVALID, 1.0)

    assert len(generations) == 10
    assert all(generations.validity([f"t{number}"], 0)[0] is INVALID for number in range(100))
    assert generations.validity(["t0", "t99"], generations.sequence) == (Validity.VALID, 0.0)


def test_tags_take_some_hundred_bytes_each() -> None:
    generations = Generations()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    for number in range(10_000):
        generations.change([f"uri={number:032x}"], INVALID, number + 0.5)

    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert taken < 10_000 * 350


def test_shows_its_state() -> None:
    generations = Generations()
    generations.change(["a", "b"], SOFT, 1.0)

    assert repr(generations) == "<Generations 1, 2 tags>"
