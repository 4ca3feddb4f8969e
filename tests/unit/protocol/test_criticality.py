"""What a trusted caller says about a request: words and numbers, or nothing."""

import pytest

from proxy.config.policies import CRITICALITIES
from proxy.protocol.criticality import parse_attempt, parse_criticality


@pytest.mark.parametrize("word", CRITICALITIES)
def test_every_word_of_the_configuration_is_read(word: str) -> None:
    assert parse_criticality(word.encode()) == word


@pytest.mark.parametrize("value", [b"", b"Critical", b" critical", b"critical, default", b"0", b"\xff", b"x" * 5000])
def test_any_other_criticality_is_ignored(value: bytes) -> None:
    assert parse_criticality(value) is None


@pytest.mark.parametrize(("value", "number"), [(b"1", 1), (b"007", 7), (b"999", 999), (b"0", 0)])
def test_short_attempt_number_is_read(value: bytes, number: int) -> None:
    assert parse_attempt(value) == number


@pytest.mark.parametrize("value", [b"", b"1000", b"-1", b"+1", b"1.0", b" 1", b"1_0", "\uff11".encode(), b"9" * 5000])
def test_any_other_attempt_number_is_ignored(value: bytes) -> None:
    assert parse_attempt(value) == 0
