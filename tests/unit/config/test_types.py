"""Secrets, header fields, switches and names."""

import pytest
from pydantic import TypeAdapter, ValidationError

from proxy.config.environment import Expanded
from proxy.config.model import AdminConfig, HeaderEdit, ServerConfig
from proxy.config.scalar import Scalar, quoted, shown
from proxy.config.types import Flag, Name, Secret, is_off


def test_secret_never_prints() -> None:
    secret = Secret("hunter2")
    config = AdminConfig(token=secret)

    shows = [str(secret), repr(secret), f"{secret}", repr(config), str(config.model_dump(mode="json"))]

    assert not any("hunter2" in text for text in shows)
    assert secret.reveal() == "hunter2"


def test_secrets_compare_by_value() -> None:
    assert Secret("a") == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"


@pytest.mark.parametrize("value", ["", 5, None, ()])
def test_a_refused_secret_is_not_repeated(value: object) -> None:
    with pytest.raises(ValueError, match="must be text that is not empty: quote it"):
        Secret.parse(value)


def test_only_the_digest_sees_secrets() -> None:
    config = AdminConfig(token=Secret("hunter2"))

    assert config.model_dump(mode="json", context={"reveal": True})["token"] == "hunter2"
    assert config.model_dump(mode="json", context={})["token"] == "***"


@pytest.mark.parametrize(
    ("value", "off"),
    [
        (False, True),
        ("off", True),
        ("none", True),
        (Expanded("false"), True),
        (Expanded("off"), True),
        ("false", False),
        (True, False),
        (0, False),
        (None, False),
        ("OFF", False),
    ],
)
def test_ways_to_write_off(value: object, off: bool) -> None:
    assert is_off(value) is off


def test_header_values_from_the_environment_are_masked() -> None:
    edit = HeaderEdit.model_validate({"set": {"X-Plain": "a", "X-Key": Expanded("hunter2")}})

    assert edit.set["X-Key"] == "hunter2"
    assert edit.model_dump(mode="json")["set"] == {"X-Plain": "a", "X-Key": "***"}


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "é", "a\r\nb", "x" * 129, "host", "Connection", "CONTENT-LENGTH", "te"]
)
def test_header_names_that_may_not_be_edited_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        HeaderEdit.model_validate({"set": {name: "x"}})
    with pytest.raises(ValidationError):
        HeaderEdit(remove=(name,))


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\0b", " a", "a ", "\x7f", "€", "x" * 8191, 5, True, None])
def test_header_values_that_could_break_out_are_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        HeaderEdit.model_validate({"set": {"X-A": value}})


@pytest.mark.parametrize("value", ["", "a", "a b\tc", "caf\xe9", "x" * 8190])
def test_ordinary_header_values_pass(value: str) -> None:
    assert HeaderEdit(set={"X-A": value}).set == {"X-A": value}


@pytest.mark.parametrize(
    "edit", [{"set": {"X-A": "1", "x-a": "2"}}, {"set": {"X-A": "1"}, "remove": ("x-A",)}, {"remove": ("A", "a")}]
)
def test_a_header_is_named_once(edit: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="is named twice"):
        HeaderEdit.model_validate(edit)


@pytest.mark.parametrize(("value", "flag"), [(True, True), (Expanded("true"), True), (Expanded("false"), False)])
def test_flag_is_coerced_from_the_environment_only(value: object, flag: bool) -> None:
    adapter = TypeAdapter(Flag)

    assert adapter.validate_python(value, strict=True) is flag
    with pytest.raises(ValidationError):
        adapter.validate_python(str(flag).lower(), strict=True)


@pytest.mark.parametrize("name", ["a", "property-write", "A.b_c-1", "x" * 64])
def test_names_that_make_good_labels_pass(name: str) -> None:
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a b", "a\n", "é", "x" * 65, "a/b"])
def test_names_that_make_bad_labels_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is not a name"):
        TypeAdapter(Name).validate_python(name)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", '"a"'),
        ("a\x1b[31m", '"a\\u001b[31m"'),
        (True, "true"),
        (5, "5"),
        (None, "an empty value"),
        ({}, "a mapping"),
        ((), "a list"),
        (Expanded("hunter2"), "the value from the environment"),
        (1.5, "1.5"),
    ],
)
def test_refused_values_are_shown_safely(value: object, text: str) -> None:
    assert shown(value) == text


def test_long_values_are_cut() -> None:
    assert quoted("x" * 1000) == f'"{"x" * 59}…"'


def test_a_scalar_says_how_it_is_parsed() -> None:
    with pytest.raises(NotImplementedError):
        Scalar.parse("x")


def test_models_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ServerConfig().drain = 1.0  # type: ignore[misc]
