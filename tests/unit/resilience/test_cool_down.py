"""How long a route leaves its upstream alone, and who may look in the meantime."""

from proxy.resilience.cool_down import CoolDown


def passed(cool_down: CoolDown, *times: float) -> list[float]:
    return [now for now in times if cool_down.take_probe(now)]


def test_nothing_is_on_before_the_upstream_asks() -> None:
    cool_down = CoolDown()

    assert not cool_down.is_on(0.0)
    assert cool_down.remaining(5.0) == 0.0


def test_it_lasts_as_long_as_was_asked() -> None:
    cool_down = CoolDown()

    assert cool_down.start(100.0, 5.0)

    assert cool_down.is_on(104.9)
    assert cool_down.remaining(102.0) == 3.0
    assert not cool_down.is_on(105.0)
    assert cool_down.remaining(106.0) == 0.0


def test_one_exchange_a_second_may_look() -> None:
    cool_down = CoolDown()
    cool_down.start(100.0, 30.0)

    assert passed(cool_down, 100.0, 100.9, 101.0, 101.1, 101.9, 102.5, 103.0, 103.5) == [101.0, 102.5, 103.5]


def test_probes_that_never_report_hold_nobody_up() -> None:
    cool_down = CoolDown()
    cool_down.start(100.0, 30.0)

    assert passed(cool_down, *[100.0 + second for second in range(1, 30)]) == [100.0 + s for s in range(1, 30)]


def test_others_that_ask_too_can_only_make_it_longer() -> None:
    cool_down = CoolDown()
    cool_down.start(100.0, 10.0)

    assert not cool_down.start(101.0, 2.0)
    assert cool_down.remaining(101.0) == 9.0
    assert not cool_down.start(102.0, 20.0)
    assert cool_down.remaining(102.0) == 20.0


def test_others_that_ask_too_do_not_put_off_the_next_probe() -> None:
    cool_down = CoolDown()
    cool_down.start(100.0, 10.0)
    cool_down.start(100.9, 10.0)

    assert passed(cool_down, 101.0) == [101.0]


def test_what_a_probe_is_told_counts_alone() -> None:
    cool_down = CoolDown()
    cool_down.start(100.0, 30.0)

    cool_down.restart(102.0, 3.0)
    assert cool_down.remaining(102.0) == 3.0

    cool_down.restart(103.0, 0.0)
    assert not cool_down.is_on(103.0)


def test_next_one_is_new_and_begins_without_a_probe() -> None:
    cool_down = CoolDown()
    cool_down.start(100.0, 1.0)

    assert cool_down.start(200.0, 5.0)
    assert passed(cool_down, 200.5, 201.0) == [201.0]


def test_limit_only_shortens() -> None:
    cool_down = CoolDown()
    cool_down.start(100.0, 30.0)

    cool_down.limit(101.0, 60.0)
    assert cool_down.remaining(101.0) == 29.0
    cool_down.limit(101.0, 5.0)
    assert cool_down.remaining(101.0) == 5.0
    assert repr(cool_down) == "<CoolDown until=106.0>"
