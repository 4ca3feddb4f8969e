"""In which order the queues give up what they hold."""

import pytest

from proxy.storage.eviction import EvictionQueues


class Thing:
    def __init__(self, name: str, size: int = 1) -> None:
        self.name = name
        self.size = size
        self.frequency = 0
        self.is_main = False
        self.identity = hash(name)

    def __repr__(self) -> str:
        return self.name


class Queues(EvictionQueues[Thing]):
    """With room for ten things."""

    def new(self, *names: str, hits: int = 0) -> list[Thing]:
        things = [Thing(name) for name in names]
        for thing in things:
            self.add(thing)
            thing.frequency = hits
        return things

    def go(self, count: int = 1, *, limit: int = 10) -> str:
        return "".join(self.pop(limit, by_bytes=False).name for _ in range(count))

    def with_main(self, names: str) -> list[Thing]:
        """Things in the main queue without a hit since they came there."""
        things = self.new(*names, hits=2)
        self.new("-")
        assert self.go() == "-"
        return things


def test_what_nobody_wants_goes_in_order_of_its_arrival() -> None:
    queues = Queues()
    queues.new(*"abcd")

    assert queues.go(3) == "abc"
    assert queues.go(limit=1000) == "d", "with room for many more"
    queues.new("e")
    assert len(queues) == 1
    assert queues.bytes == 1


@pytest.mark.parametrize(("hits", "is_main"), [(0, False), (1, False), (2, True), (3, True)])
def test_what_was_wanted_twice_comes_to_the_main_queue(hits: int, is_main: bool) -> None:
    queues = Queues()
    (thing,) = queues.new("a", hits=hits)
    queues.new("b")

    assert queues.go() == ("b" if is_main else "a")
    assert thing.is_main is is_main


def test_hits_in_the_small_queue_do_not_count_in_the_main_queue() -> None:
    queues = Queues()
    (thing,) = queues.with_main("a")

    assert (thing.is_main, thing.frequency) == (True, 0)


def test_main_queue_gives_up_only_what_was_not_wanted_since_its_last_round() -> None:
    queues = Queues()
    first, second, third = queues.with_main("abc")
    first.frequency, second.frequency = 2, 1

    assert queues.go(3) == "cba"
    assert third.frequency == 0


def test_small_queue_gives_way_first_from_a_tenth_on() -> None:
    queues = Queues()
    queues.with_main("abcdefghi")
    queues.new("x")

    assert queues.go(limit=10) == "x"
    assert queues.go(limit=10) == "a", "with nothing in the small queue"
    queues.new("y")
    assert queues.go(limit=11) == "b", "with less than a tenth there"


@pytest.mark.parametrize(("by_bytes", "goes"), [(True, "large"), (False, "a")])
def test_tenth_is_of_what_is_short(by_bytes: bool, goes: str) -> None:
    queues = Queues()
    queues.with_main("abcdefghi")
    queues.add(Thing("large", 1000))

    assert queues.pop(100, by_bytes=by_bytes).name == goes


def test_small_ones_do_not_go_for_bytes_that_the_others_take() -> None:
    queues = Queues()
    for name in "abc":
        thing = Thing(name, 1000)
        queues.add(thing)
        thing.frequency = 2
    queues.add(Thing("-"))
    assert queues.pop(10, by_bytes=True).name == "-"
    queues.new(*"uvwxyz")

    assert queues.pop(3000, by_bytes=True).name == "a"


def test_what_comes_back_soon_comes_to_the_main_queue() -> None:
    queues = Queues()
    queues.new(*"abcdef")
    queues.go(2)

    (back,) = queues.new("b")
    (other,) = queues.new("x")

    assert back.is_main
    assert not other.is_main
    assert queues.go() == "c"
    queues.remove(back)
    assert not queues.new("b")[0].is_main, "it was remembered for one return"


def test_as_many_are_remembered_as_there_are() -> None:
    queues = Queues()
    queues.new(*(str(number) for number in range(105)))
    for _ in range(100):
        queues.pop(10, by_bytes=False)

    assert repr(queues) == "<EvictionQueues small=5 main=0 ghosts=5>"
    assert not queues.new("94")[0].is_main
    assert queues.new("95")[0].is_main


def test_what_left_the_main_queue_is_not_remembered() -> None:
    queues = Queues()
    queues.with_main("ab")

    assert queues.go() == "a"
    assert not queues.new("a")[0].is_main


@pytest.mark.parametrize("is_main", [False, True])
def test_successor_has_the_queue_and_the_hits(is_main: bool) -> None:
    queues = Queues()
    (old,) = queues.with_main("a") if is_main else queues.new("a")
    old.frequency = 1
    queues.remove(old)
    new = Thing("new", 5)

    queues.succeed(old, new)

    assert (new.is_main, new.frequency) == (is_main, 1)
    assert (len(queues), queues.bytes) == (1, 5)
    queues.remove(new)
    assert (len(queues), queues.bytes) == (0, 0)


def test_removing_what_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        Queues().remove(Thing("a"))


@pytest.mark.parametrize("is_main", [False, True])
def test_one_look_is_bounded_however_many_are_in_use(is_main: bool) -> None:
    queues = Queues()
    names = [str(number) for number in range(1000)]
    things = queues.new(*names, hits=3)
    if is_main:
        queues.new("-")
        for _ in range(8):
            queues.pop(10, by_bytes=False)
        for thing in things:
            thing.frequency = 3
    before = [(thing, thing.frequency, thing.is_main) for thing in things]

    queues.pop(10, by_bytes=False)

    moved = [each for each, frequency, was_main in before if (each.frequency, each.is_main) != (frequency, was_main)]
    assert 0 < len(moved) <= 128
