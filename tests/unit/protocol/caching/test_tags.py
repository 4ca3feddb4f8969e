"""Tags: what parameters become in them, what a pattern means, what nobody can forge."""

import pytest

from proxy.protocol.caching.tags import (
    ALL,
    escaped,
    fill_in,
    path_tag,
    route_tag,
    tag_of_pattern,
    uri_tag,
    user_tag,
    with_prefixes,
)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("123", "123"),
        ("a-b_c.d~e", "a-b_c.d~e"),
        ("", ""),
        ("a:b", "a%3Ab"),
        ("*", "%2A"),
        ("user=1", "user%3D1"),
        ("a b", "a%20b"),
        ("a%62", "ab"),
        ("%2561", "%2561"),
        ("a%2fb", "a%2Fb"),
        ("100%", "100%25"),
        ("%~", "%25~"),
        ("é", "%C3%A9"),
        ("\udce9", "%E9"),
        ("²", "%C2%B2"),
    ],
)
def test_parameter_becomes_one_word(value: str, word: str) -> None:
    assert escaped(value) == word


def test_spellings_that_an_upstream_reads_alike_are_one_tag() -> None:
    assert fill_in("property:{id}", {"id": "%61b"}) == fill_in("property:{id}", {"id": "ab"})


@pytest.mark.parametrize("value", ["a" * 129, "%2A" * 43, "é" * 22])
def test_long_parameter_is_hashed_to_what_no_other_can_be(value: str) -> None:
    word = escaped(value)

    assert word.startswith("%~")
    assert len(word) == 34
    assert word != escaped(value + "a")
    assert escaped(word) != word


def test_parameter_of_128_characters_stays_readable() -> None:
    assert escaped("a" * 128) == "a" * 128


@pytest.mark.parametrize(
    ("template", "tag"),
    [
        ("properties:list", "properties:list"),
        ("property:{id}", "property:a%3Ab"),
        ("{id}:x:{suburb}", "a%3Ab:x:Preston"),
        ("v-{suburb}.{id}", "v-Preston.a%3Ab"),
        ("property:{other}", "property:"),
    ],
)
def test_template_is_filled_in(template: str, tag: str) -> None:
    assert fill_in(template, {"id": "a:b", "suburb": "Preston"}) == tag


def test_prefixes_are_tags_too() -> None:
    assert with_prefixes("properties:list:vic") == ["properties:list:vic", "properties:list", "properties"]
    assert with_prefixes("property") == ["property"]


def test_parameter_adds_no_prefix() -> None:
    assert with_prefixes(fill_in("property:{id}", {"id": "1:2:3"})) == ["property:1%3A2%3A3", "property"]


@pytest.mark.parametrize(
    ("pattern", "tag"),
    [
        ("property:123", "property:123"),
        ("properties:list:*", "properties:list"),
        ("*", ALL),
        ("property:{id}", "property:{id}"),
        ("property:{id}:*", "property:{id}"),
        ("suburb:St Kilda", "suburb:St%20Kilda"),
        ("suburb:St%20Kilda", "suburb:St%20Kilda"),
        ("a:%3a", "a:%3A"),
    ],
)
def test_pattern_stands_for_a_tag(pattern: str, tag: str) -> None:
    assert tag_of_pattern(pattern) == tag


@pytest.mark.parametrize("value", ["1", "St Kilda", "a:b", "*", "=", "x" * 200])
def test_pattern_may_be_read_before_or_after_it_is_filled_in(value: str) -> None:
    params = {"id": value}

    before = fill_in(tag_of_pattern("property:{id}:*"), params)

    assert before == tag_of_pattern(fill_in("property:{id}:*", params))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "words with one `:`"),
        ("a::b", "words with one `:`"),
        (":a", "words with one `:`"),
        ("a:", "words with one `:`"),
        (":*", "words with one `:`"),
        ("a*", "only at the end"),
        ("a:*:b", "only at the end"),
        ("*:*:*", "only at the end"),
        ("user=1", "no `=`"),
        ("a:b=c", "no `=`"),
    ],
)
def test_what_is_no_tag_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tag_of_pattern(pattern)


@pytest.mark.parametrize("implied", [uri_tag("ab"), path_tag("ab"), route_tag("property"), user_tag(b"bob")])
def test_implied_tag_cannot_be_declared(implied: str) -> None:
    assert implied not in with_prefixes(fill_in("{a}", {"a": implied}))
    with pytest.raises(ValueError, match="="):
        tag_of_pattern(implied)


def test_users_have_tags_of_their_own_that_do_not_show_them() -> None:
    assert user_tag(b"bob") != user_tag(b"alice")
    assert "bob" not in user_tag(b"bob")
