"""Durations and sizes: what is read, what is refused, and that printing and reading are inverse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.environment import Expanded
from proxy.config.model import Limits, ServerConfig
from proxy.config.policies import TimeoutConfig
from proxy.config.quantities import format_duration, format_size, parse_duration, parse_size

YEAR_MS = 365 * 86_400_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1.5s", 1.5),
        ("0.05s", 0.05),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        ("1d", 86_400.0),
        ("1d2h3m4s5ms", 93_784.005),
        ("0s", 0.0),
        ("007s", 7.0),
    ],
)
def test_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        "0",
        "s",
        "5 s",
        " 5s",
        "5s ",
        "-5s",
        "+5s",
        "1s1m",
        "5s5s",
        "5sec",
        "1.2345s",
        "1.5ms",
        "\u0665s",
        "1e3s",
        "5S",
        5,
        0,
        1.5,
        True,
        None,
        {},
        (),
        "9999999999s",
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration: write a number and a unit, such as 250ms"):
        parse_duration(value)


def test_duration_has_an_upper_end() -> None:
    assert parse_duration("365d") == 365 * 86_400
    with pytest.raises(ValueError, match="the longest duration is 365d"):
        parse_duration("365d1ms")


@given(st.integers(0, YEAR_MS))
def test_duration_survives_printing_and_reading(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.text(max_size=12) | st.from_regex(r"[0-9.]{0,5}(d|h|m|s|ms)?[0-9.]{0,5}(s|ms)?", fullmatch=True))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.25, "250ms"), (90, "1m30s"), (7200, "2h"), (86_400, "1d"), (0.1 + 0.2, "300ms")]
)
def test_duration_prints_in_its_yaml_form(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_code_gives_durations_as_numbers_but_never_zero_where_none_is_meant() -> None:
    assert TimeoutConfig(total=5, attempt=None).total == 5.0
    with pytest.raises(ValueError, match="the shortest duration here is 1ms"):
        TimeoutConfig(total=0)


def test_a_delay_may_be_zero() -> None:
    assert ServerConfig(drain=0).drain == 0.0


@pytest.mark.parametrize(
    ("value", "size"),
    [(1, 1), ("17", 17), ("17B", 17), ("64KiB", 65_536), ("10MB", 10_000_000), ("1GiB", 1 << 30), (1 << 50, 1 << 50)],
)
def test_size_is_read_as_bytes(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value", ["", "KiB", "1.5GiB", "1 KiB", "-1", "1kb", "1K", "1_000", "\uff11KiB", 1.5, True, None, {}]
)
def test_what_is_no_size_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="is not a size: write bytes, or a unit as in 64KiB"):
        parse_size(value)


@pytest.mark.parametrize("value", [0, -1, "0", "0KiB", (1 << 50) + 1, "999999999999999GiB"])
def test_size_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a size is 1 byte to 1048576GiB"):
        parse_size(value)


@given(st.integers(1, 1 << 50))
def test_size_survives_printing_and_reading(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(("size", "text"), [(1, "1B"), (32_768, "32KiB"), (10_000_000, "10MB"), (1001, "1001B")])
def test_size_prints_with_the_largest_unit_that_fits(size: int, text: str) -> None:
    assert format_size(size) == text


def test_a_refusal_does_not_repeat_what_came_from_the_environment() -> None:
    with pytest.raises(ValueError, match=r"^the value from the environment is not a duration"):
        parse_duration(Expanded("hunter2"))


def test_limits_print_in_their_yaml_form() -> None:
    limits = Limits(max_body=None).model_dump(mode="json")

    assert limits["max_head"] == "32KiB"
    assert limits["max_body"] == "off"
    assert limits["keepalive"] == "1m15s"
