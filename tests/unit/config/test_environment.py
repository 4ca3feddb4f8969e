"""`${VAR}` in scalars."""

import pytest

from proxy.config.environment import Expanded, expand

ENV = {"PORT": "9000", "EMPTY": "", "ODD": "${PORT}$$"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${PORT}", "9000"),
        ("a${PORT}b${PORT}", "a9000b9000"),
        ("${PORT:-1}", "9000"),
        ("${NONE:-1}", "1"),
        ("${NONE:-}", ""),
        ("${EMPTY:-1}", "1"),
        ("${EMPTY}", ""),
        ("$$", "$"),
        ("$${PORT}", "${PORT}"),
        ("$PORT $", "$PORT $"),
        ("${NONE:-http://a:1/}", "http://a:1/"),
        ("${ODD}", "${PORT}$$"),
    ],
)
def test_references_are_replaced_once(text: str, expected: str) -> None:
    assert expand(text, ENV) == expected


@pytest.mark.parametrize(
    "text", ["${", "${}", "${PORT", "${1A}", "${PORT-1}", "${PORT:1}", "${A B}", "${NONE:-${PORT}}", "${É}"]
)
def test_malformed_references_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        expand(text, ENV)


def test_unknown_variable_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no variable NONE: set it, or write \$\{NONE:-default\}"):
        expand("${NONE}", ENV)


def test_only_text_from_the_environment_is_marked_as_such() -> None:
    assert isinstance(expand("x${PORT}", ENV), Expanded)
    assert not isinstance(expand("$$x", ENV), Expanded)
