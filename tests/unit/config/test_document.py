"""YAML text to plain data and marks; fault H04: what a hostile or surprising file may not do."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.document import Document, read_document
from proxy.config.problems import Mark


def problems(text: str) -> list[str]:
    return [f"{mark.line}:{mark.column}: {message}" for mark, message in read_document(text, {"A": "x"}).problems]


def value_of(scalar: str) -> object:
    document = read_document(f"a: {{b: {scalar}}}", {"PORT": "80"})
    assert not document.problems
    return document.get(("a", "b"))


def test_places_of_keys_and_values_are_known() -> None:
    document = read_document("a:\n  b: [x, {c: 1}]\n", {})

    assert document.data == {"a": {"b": ("x", {"c": 1})}}
    assert document.key_mark(("a", "b")) == Mark(2, 3)
    assert document.value_mark(("a", "b", 1)) == Mark(2, 10)
    assert document.key_mark(("a", "b", 1, "c")) == Mark(2, 11)
    assert document.value_mark(("a", "b", 1, "c")) == Mark(2, 14)


def test_a_place_that_is_not_written_is_that_around_it() -> None:
    document = read_document("a:\n  b: 1\n", {})

    assert document.value_mark(("a", "b", "c", "d")) == Mark(2, 6)
    assert document.key_mark(("a", "x")) == Mark(2, 3)
    assert document.existing(("a", "b", "c")) == ("a", "b")
    assert document.get(("a", "x", "y")) is None
    assert Document().value_mark(("a",)) == Mark(1, 1)


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("0", 0),
        ("0.5", 0.5),
        ("-0.5", -0.5),
        ("true", True),
        ("Yes", True),
        ("on", True),
        ("NO", False),
        ("off", False),
        ("none", "none"),
        ("text", "text"),
        ("5s", "5s"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("-", "-"),
        ('"5"', "5"),
        ("'no'", "no"),
        ('"012"', "012"),
        ('"1:30"', "1:30"),
        ('""', ""),
        ('"${PORT}"', "80"),
        ('"$$"', "$"),
    ],
)
def test_scalars_mean_what_they_say(scalar: str, value: object) -> None:
    found = value_of(scalar)

    assert found == value
    assert isinstance(found, type(value))


@pytest.mark.parametrize(
    ("scalar", "reason"),
    [
        ("012", "octal"),
        ("007", "octal"),
        ("0o17", "write it in decimal"),
        ("0x1F", "write it in decimal"),
        ("0b1", "write it in decimal"),
        ("1:30", "base 60"),
        ("1:30:00", "base 60"),
        ("1_000", "without underscores"),
        ("2026-01-02", "a date"),
        ("2026-01-02T03:04:05Z", "a date"),
        (".inf", "not a finite number"),
        ("-.INF", "not a finite number"),
        (".nan", "not a finite number"),
        ("1e3", "unusual number"),
        ("+5", "unusual number"),
        (".5", "unusual number"),
        ("5.", "unusual number"),
        ("9999999999999999999", "unusual number"),
    ],
)
def test_h04_scalars_that_yaml_versions_read_differently_are_refused(scalar: str, reason: str) -> None:
    (problem,) = problems(f"a:\n  b: {scalar}\n")

    assert problem.startswith(f"2:6: {scalar} is ")
    assert reason in problem
    assert problem.endswith("quote it to mean the text")


def bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return "\n".join(lines)


HOSTILE: dict[str, tuple[Callable[[], str], str]] = {
    "alias bomb": (bomb, "1:4: the anchor &a is not supported"),
    "nested lists": (lambda: "a: " + "[" * 100_000, "nested deeper than 20 levels"),
    "nested mappings": (lambda: "{a: " * 100_000, "nested deeper than 20 levels"),
    "nested block": (lambda: "- " * 100_000, "nested deeper than 20 levels"),
    "nested keys": (lambda: "? " * 100_000, "a key must be plain text"),
    "many values": (lambda: "a:\n" + "- b\n" * 250_000, "more than 10000 values"),
    "many keys": (lambda: "\n".join(f"k{n}: 1" for n in range(90_000)), "more than 10000 values"),
    "python object": (lambda: "a: !!python/object/apply:os.system [ls]", "1:4: YAML tags"),
    "tag on text": (lambda: "a: !!str 5", "1:4: YAML tags"),
    "local tag": (lambda: "a: !include x", "1:4: YAML tags"),
    "merge key": (lambda: "a: {b: 1}\n<<: {c: 1}", "2:1: merge keys"),
    "duplicate key": (lambda: "a: 1\nb: 2\na: 3", '3:1: the key "a" is written twice: the first is in line 1'),
    "two documents": (lambda: "a: 1\n---\nb: 2", "2:1: a second YAML document"),
    "list at the top": (lambda: "- a", "1:1: a policies file is a mapping"),
    "text at the top": (lambda: "hello", "1:1: a policies file is a mapping"),
    "alias as a key": (lambda: "*a : 1", "the alias *a is not supported"),
    "alias without anchor": (lambda: "a: *b", "1:4: the alias *b is not supported"),
    "list as a key": (lambda: "[a]: 1", "1:1: a key must be plain text"),
    "tab": (lambda: "a:\n\tb: 1", "not valid YAML"),
    "control character": (lambda: "a: 1\nb: \x01", "2:1: not valid YAML: a character"),
    "unclosed": (lambda: "a: [b", "not valid YAML"),
    "variable in flow": (lambda: "a: {b: ${A}}", "quote text that holds a brace"),
    "null": (lambda: "a: {b: null}", "1:5: no value: write one, or remove the key"),
    "nothing": (lambda: "a:\n  b:\n  c: 1", "2:3: no value: write one, or remove the key"),
    "null in a list": (lambda: "a: [~]", "1:5: no value"),
    "variable unknown": (lambda: "a: ${B}", "1:4: the environment has no variable B"),
    "variable malformed": (lambda: 'a: "${B"', "1:4: malformed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_h04_hostile_text_is_refused_with_its_place_and_at_once(name: str) -> None:
    make, expected = HOSTILE[name]
    text = make()

    started = time.process_time()
    found = problems(text)

    assert time.process_time() - started < 0.5
    assert any(expected in problem for problem in found), found[:3]


def test_one_mistake_does_not_hide_the_next() -> None:
    text = "a: 012\nb: *x\nc: 1:30\na: 2\nd: !!set 1\n"

    assert [problem.split(":")[0] for problem in problems(text)] == ["1", "2", "3", "4", "5"]


def test_the_first_of_two_keys_counts() -> None:
    document = read_document("a: {x: 1}\na: {y: 2}\n", {})

    assert document.data == {"a": {"x": 1}}


def test_an_empty_section_is_as_if_it_were_not_there() -> None:
    document = read_document("a:\nb: ~\nc: 1\n", {})

    assert document.data == {"c": 1}
    assert not document.problems


def test_keys_are_text_whatever_they_look_like() -> None:
    assert read_document("a: {no: 1, 012: 2, '<<': 3}", {}).data == {"a": {"no": 1, "012": 2, "<<": 3}}


def test_keys_hold_no_variables() -> None:
    assert read_document('"${A}": 1', {"A": "x"}).data == {"${A}": 1}


@given(st.text(alphabet="ab:-?[]{},&*!|>'\"%@`#~ \n\t<$\\01.", max_size=80))
def test_any_text_gives_a_document(text: str) -> None:
    read_document(text, {"a": "b"})
