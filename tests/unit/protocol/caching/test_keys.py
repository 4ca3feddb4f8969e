"""Keys: what makes two requests one, what keeps them apart, and which requests have none."""

import pytest

from proxy.protocol.caching.keys import NO_USER, UNDECLARED_QUERY, CacheKey, KeyMaker

ORIGIN = ("api.test", "http")


def key(
    path: str = "/a",
    query: str | None = None,
    *,
    authority: str = "api.test",
    scheme: str = "http",
    user: bytes = b"",
    maker: KeyMaker | None = None,
    **params: str,
) -> CacheKey:
    made = (maker or KeyMaker("r", "api")).make(authority, scheme, path, query, params, user)
    assert isinstance(made, CacheKey)
    return made


# --- what counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        key("/b"),
        key("/A"),
        key("/a/"),
        key("/%61"),
        key("/a", ""),
        key("/a", "x"),
        key(authority="api2.test"),
        key(authority="api.test:81"),
        key(authority="api.test:443"),
        key(scheme="https"),
        key(user=b"bob"),
        key(maker=KeyMaker("r", "other")),
    ],
)
def test_requests_that_differ_have_different_keys(other: CacheKey) -> None:
    assert key().digest != other.digest
    assert len(other.digest) == 16


@pytest.mark.parametrize(
    "same",
    [
        key(authority="API.Test"),
        key(authority="api.test:80"),
        key(maker=KeyMaker("renamed", "api")),
        key(maker=KeyMaker("r", "api", key_template="{hash}", tag_templates=("a:{b}",)), b="1"),
    ],
)
def test_what_means_nothing_is_not_in_the_key(same: CacheKey) -> None:
    assert key().digest == same.digest
    assert key().uri == same.uri


def test_default_port_is_that_of_the_scheme() -> None:
    assert key(authority="a:443", scheme="https").digest == key(authority="a", scheme="https").digest
    assert key(authority="a:80", scheme="https").digest != key(authority="a", scheme="https").digest


def test_parts_cannot_run_into_each_other() -> None:
    keys = [key("/ab", "c"), key("/a", "bc"), key("/a", "b?c"), key("/a?b", "c"), key("/a", "b", user=b"c")]

    assert len({made.digest for made in keys}) == len(keys)


def test_path_is_taken_byte_for_byte() -> None:
    assert key("/\udce9").digest != key("/\xe9").digest


def test_uri_is_that_of_all_users_and_both_schemes() -> None:
    assert key().uri == key(user=b"bob").uri == key(scheme="https").uri
    assert key().uri != key(authority="b").uri
    assert key().uri != key(query="").uri


def test_path_is_that_of_all_authorities() -> None:
    assert key().path == key(authority="b").path
    assert key().path != key("/b").path
    assert key().path != key().uri


# --- query ----------------------------------------------------------------------------------------------------------

SEARCH = KeyMaker("search", "api", query=("suburb", "page"))
TRACKED = KeyMaker("search", "api", query=("suburb", "page"), ignore_query=("utm", "ref"))
FREE = KeyMaker("list", "api", ignore_query=("utm",))


@pytest.mark.parametrize("other", ["b=1&a=1", "a=1&b=2", "a=1&b=1&", "a=1&b=%31", "A=1&b=1", "a=1;b=1"])
def test_without_declared_parameters_the_whole_query_counts(other: str) -> None:
    assert key(query="a=1&b=1").digest != key(query=other).digest


@pytest.mark.parametrize(
    ("query", "same"),
    [
        ("suburb=a&page=2", "page=2&suburb=a"),
        ("suburb=a&suburb=b&page=2", "suburb=a&page=2&suburb=b"),
        ("", None),
    ],
)
def test_declared_parameters_count_in_any_order(query: str, same: str | None) -> None:
    assert key(query=query, maker=SEARCH).digest == key(query=same, maker=SEARCH).digest


@pytest.mark.parametrize(
    ("query", "other"),
    [
        ("suburb=a", "suburb=A"),
        ("suburb=a", "suburb=%61"),
        ("suburb=a", "suburb=a+"),
        ("suburb=", "suburb"),
        ("suburb=a", None),
        ("suburb=a&suburb=b", "suburb=b&suburb=a"),
        ("suburb=a&suburb=a", "suburb=a"),
        ("suburb=a&page=1", "suburb=a;page=1"),
        ("suburb=a=b", "suburb=a"),
    ],
)
def test_declared_parameters_are_compared_byte_for_byte(query: str, other: str | None) -> None:
    assert key(query=query, maker=SEARCH).digest != key(query=other, maker=SEARCH).digest


@pytest.mark.parametrize(
    "query", ["x=1", "suburb=a&x=1", "Suburb=a", "%73uburb=a", "suburb[]=a", "&", "suburb=a&", "="]
)
def test_other_parameter_leaves_the_request_without_a_key(query: str) -> None:
    assert SEARCH.make(*ORIGIN, "/search", query, {}) == UNDECLARED_QUERY


def test_no_declared_parameter_means_no_query_at_all() -> None:
    maker = KeyMaker("r", "api", query=())

    assert maker.make(*ORIGIN, "/a", "x=1", {}) is UNDECLARED_QUERY
    assert key(query="", maker=maker).digest == key(maker=maker).digest


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("suburb=a&utm=x", "/search?suburb=a"),
        ("utm=x&page=2&ref=y&suburb=a", "/search?page=2&suburb=a"),
        ("utm=x", "/search"),
        ("utm", "/search"),
        ("suburb=a&utm=x;suburb=evil", "/search?suburb=a"),
        ("", "/search"),
        ("page=2&suburb=a", None),
        (None, None),
    ],
)
def test_ignored_parameters_are_not_asked_for(query: str | None, target: str | None) -> None:
    assert key("/search", query, maker=TRACKED).target == target


def test_ignored_parameters_are_in_no_key() -> None:
    plain = key("/search", "suburb=a", maker=TRACKED)

    assert key("/search", "utm=1&suburb=a", maker=TRACKED).digest == plain.digest
    assert TRACKED.make(*ORIGIN, "/search", "suburb=a&UTM=1", {}) is UNDECLARED_QUERY


@pytest.mark.parametrize(
    ("query", "target", "same"),
    [
        ("b=1&utm=2&a=1", "/a?b=1&a=1", "b=1&a=1"),
        ("utm=2", "/a", None),
        ("utm=2&", "/a?", ""),
        ("b=1&a=1", None, "b=1&a=1"),
        ("", None, ""),
    ],
)
def test_parameters_can_be_ignored_where_all_others_count(query: str, target: str | None, same: str | None) -> None:
    made = key(query=query, maker=FREE)

    assert made.target == target
    assert made.digest == key(query=same).digest


# --- tags -----------------------------------------------------------------------------------------------------------


def test_key_has_all_tags_that_its_response_can_be_purged_by() -> None:
    maker = KeyMaker("property", "api", tag_templates=("property:{id}", "property:{id}:history"))

    made = key("/p/1%3A2", maker=maker, user=b"bob", id="1%3A2")

    declared = ("property:1%3A2", "property", "property:1%3A2:history")
    assert made.tags[:3] == declared
    assert made.tags[3:6] == ("*", "route=property", f"uri={made.uri}")
    assert made.tags[6:-1] == (f"path={made.path}",)
    assert made.tags[-1].startswith("user=")


def test_tags_without_user_are_alike_for_everybody() -> None:
    assert not any(tag.startswith("user=") for tag in key().tags)


# --- for people -----------------------------------------------------------------------------------------------------

SEEDS = KeyMaker("search", "api", key_template="search:{user}:{hash}:{query.page}")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("property:{id}", "property:1%3A2"),
        ("list:{query.page}:{query.size}", "list:2:"),
        ("list:{query.tag}", "list:a,b"),
        ("fixed", "fixed"),
    ],
)
def test_readable_key_has_what_its_template_names(template: str, text: str) -> None:
    maker = KeyMaker("r", "api", key_template=template)

    made = key("/p/1:2", "page=2&tag=a&tag=b", maker=maker, id="1:2")

    assert made.text == text
    assert made.digest == key("/p/1:2", "page=2&tag=a&tag=b").digest


def test_readable_key_hides_the_user() -> None:
    made = key(query="page=2&q=x", maker=SEEDS, user=b"bob")

    name, user, rest, page = made.text.split(":")
    assert (name, page) == ("search", "2")
    assert len(user) == len(rest) == 12
    assert "bob" not in made.text


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"query": "page=1&q=x"}, {"query": "q=x&page=2"}, True),
        ({"query": "page=1&q=x"}, {"query": "page=1&q=y"}, False),
        ({"authority": "a"}, {"authority": "b"}, False),
        ({"user": b"a"}, {"user": b"b"}, True),
        ({"path": "/x/1", "id": "1"}, {"path": "/x/2", "id": "2"}, False),
    ],
)
def test_hash_stands_for_all_that_is_not_named(one: dict[str, str], other: dict[str, str], is_same: bool) -> None:
    hashes = [key(maker=SEEDS, **parts).text.split(":")[2] for parts in (one, other)]  # type: ignore[arg-type]

    assert (hashes[0] == hashes[1]) is is_same


def test_hash_has_the_user_where_nothing_else_names_it() -> None:
    maker = KeyMaker("r", "api", key_template="{hash}")

    assert key(maker=maker, user=b"a").text != key(maker=maker, user=b"b").text


def test_parameter_of_the_path_may_be_called_user() -> None:
    made = KeyMaker("r", "api", key_template="u:{user}").make(*ORIGIN, "/users/7", None, {"user": "7"})

    assert isinstance(made, CacheKey)
    assert made.text == "u:7"


@pytest.mark.parametrize(
    ("path", "query", "text"),
    [
        ("/a", None, "GET api.test/a"),
        ("/a", "", "GET api.test/a?"),
        ("/a", "utm=1&b=2", "GET api.test/a?b=2"),
        ("/\udce9 \n", "é", "GET api.test/%E9 %0A?%C3%A9"),
    ],
)
def test_readable_key_is_method_and_url_without_a_template(path: str, query: str | None, text: str) -> None:
    assert key(path, query, maker=FREE).text == text


def test_readable_key_is_short() -> None:
    assert len(key("/" + "a" * 30_000).text) == 256


# --- memory ---------------------------------------------------------------------------------------------------------


def test_key_of_a_repeated_request_is_worked_out_once() -> None:
    maker = KeyMaker("r", "api", query=())

    assert key("/a", maker=maker) is key("/a", maker=maker)
    assert maker.make(*ORIGIN, "/a", "x", {}) is maker.make(*ORIGIN, "/a", "x", {})


def test_key_that_is_asked_for_again_outlives_a_scan() -> None:
    maker = KeyMaker("r", "api")
    popular = key("/popular", maker=maker)

    for number in range(10_000):
        key(f"/{number}", maker=maker)
        assert number % 500 or key("/popular", maker=maker) is popular


def test_remembered_keys_are_bounded() -> None:
    maker = KeyMaker("r", "api")
    first = key("/0", maker=maker)

    for number in range(1, 5_000):
        key(f"/{number}", maker=maker)

    assert key("/0", maker=maker) is not first
    assert sum(len(getattr(maker, name)) for name in ("_recent", "_older")) <= 2048


@pytest.mark.parametrize(
    "parts", [{"path": "/" + "a" * 512}, {"query": "a" * 512}, {"authority": "a" * 512}, {"user": b"a" * 512}]
)
def test_long_requests_are_not_remembered(parts: dict[str, str]) -> None:
    maker = KeyMaker("r", "api")

    assert key(maker=maker, **parts) is not key(maker=maker, **parts)  # type: ignore[arg-type]


def test_what_has_no_key_says_why() -> None:
    assert (UNDECLARED_QUERY.reason, NO_USER.reason) == ("query", "user")
