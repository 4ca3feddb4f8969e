"""Age on arrival (RFC 9111 sections 4.2.3 and 5.1)."""

import pytest

from proxy.protocol.caching.ages import age_value, date_of, initial_age
from proxy.protocol.caching.targeted import lines_of
from proxy.protocol.dates import format_http_date

NOW = 1_800_000_000.25


def lines(*values: bytes) -> dict[bytes, list[bytes]]:
    return lines_of([(b"Age", value) for value in values])


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], 0),
        ([b"0"], 0),
        ([b"60"], 60),
        ([b" 060 "], 60),
        ([b"60, 5"], 60),
        ([b"5, 60"], 5),
        ([b"5", b"60"], 5),
        ([b", 5"], 5),
        ([b"", b"5"], 5),
        ([b"x, 5"], 0),
        ([b"-5"], 0),
        ([b"5.5"], 0),
        ([b'"5"'], 0),
        ([b"5;a"], 0),
        ([b"1e3"], 0),
        ([b""], 0),
        ([b"2147483648"], 2**31),
        ([b"9" * 400], 2**31),
    ],
)
def test_first_member_of_age_counts_and_nonsense_does_not(values: list[bytes], seconds: int) -> None:
    assert age_value(lines(*values)) == seconds


@pytest.mark.parametrize(
    ("age", "dated", "delay", "expected"),
    [
        (b"", 0, 0.0, 0.0),
        (b"", 0, 2.5, 2.5),
        (b"10", 0, 2.5, 12.5),
        (b"", 30, 2.5, 30.0),
        (b"10", 30, 2.5, 30.0),
        (b"40", 30, 2.5, 42.5),
        (b"", 86_400, 0.0, 86_400.0),
        (b"", -86_400, 0.0, 0.0),
        (b"10", -86_400, 1.0, 11.0),
        (b"", 0, -5.0, 0.0),
        (b"2147483648", 0, 5.0, 2.0**31),
    ],
)
def test_the_older_of_both_ways_counts(age: bytes, dated: int, delay: float, expected: float) -> None:
    assert initial_age(lines(age), NOW - dated, NOW - delay, NOW) == pytest.approx(expected)


def test_the_rest_of_a_second_is_no_age() -> None:
    assert initial_age(lines(), float(int(NOW)), NOW, NOW) == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], NOW),
        ([b"yesterday"], NOW),
        ([format_http_date(5.0)], 5.0),
        ([b"0", format_http_date(5.0), format_http_date(9.0)], 5.0),
    ],
)
def test_date_is_the_first_valid_one_or_the_time_of_receipt(values: list[bytes], expected: float) -> None:
    assert date_of(lines_of([(b"Date", value) for value in values]), NOW) == expected
