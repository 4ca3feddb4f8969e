import pytest

from proxy.protocol.deadline import format_deadline_ms, parse_deadline_ms


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"0", 0.0), (b"1500", 1.5), (b"007", 0.007), (b"999999999", 999999.999)]
)
def test_plain_milliseconds_are_read(value: bytes, seconds: float) -> None:
    assert parse_deadline_ms(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nan",
        b"inf",
        b"-1",
        b"+1",
        b"1e309",
        b"1.5",
        b"1_0",
        b" 1",
        "\uff11\uff10".encode(),
        b"1" * 10,
        b"1" * 5000,
    ],
)
def test_anything_else_is_ignored(value: bytes) -> None:
    assert parse_deadline_ms(value) is None


@pytest.mark.parametrize(("seconds", "value"), [(1.5, b"1500"), (0.0019, b"1"), (0.0, b"1"), (-3.0, b"1")])
def test_remaining_time_is_rounded_down_and_never_nothing(seconds: float, value: bytes) -> None:
    assert format_deadline_ms(seconds) == value


def test_what_is_written_can_be_read() -> None:
    assert parse_deadline_ms(format_deadline_ms(1e12)) == 999_999.999
