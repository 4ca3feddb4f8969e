from collections.abc import Callable

import pytest

from proxy.protocol.structured import BareItem, Token, serialize_bare, serialize_item, serialize_list


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "?1"),
        (False, "?0"),
        (0, "0"),
        (-42, "-42"),
        (999_999_999_999_999, "999999999999999"),
        (Token("a:b/c"), "a:b/c"),
        (Token("*x"), "*x"),
        ("", '""'),
        ('say "a\\b"', '"say \\"a\\\\b\\""'),
    ],
)
def test_bare_items(value: BareItem, text: str) -> None:
    assert serialize_bare(value) == text


def test_parameters_follow_their_item() -> None:
    params: dict[str, BareItem] = {"a": 1, "flag": True, "off": False, "t": Token("x"), "s": "y"}

    assert serialize_item(Token("name"), params) == 'name;a=1;flag;off=?0;t=x;s="y"'


def test_item_without_parameters() -> None:
    assert serialize_item("a") == '"a"'


def test_list_members_are_in_a_row() -> None:
    assert serialize_list([("a", {"q": 1}), (Token("b"), {})]) == '"a";q=1, b'


@pytest.mark.parametrize(
    "serialize",
    [
        lambda: serialize_bare(10**15),
        lambda: serialize_bare(-(10**15)),
        lambda: serialize_bare(Token("1a")),
        lambda: serialize_bare(Token("")),
        lambda: serialize_bare(Token("a b")),
        lambda: serialize_bare(Token("a\n")),
        lambda: serialize_bare("é"),
        lambda: serialize_bare("a\n"),
        lambda: serialize_item(1, {"Upper": 1}),
        lambda: serialize_item(1, {"": 1}),
        lambda: serialize_list([]),
    ],
)
def test_what_has_no_form_is_an_error(serialize: Callable[[], str]) -> None:
    with pytest.raises(ValueError):
        serialize()
