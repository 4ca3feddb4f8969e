import pytest

from proxy.routing.template import Template, TemplateError


@pytest.mark.parametrize(
    ("text", "method", "segments", "has_rest"),
    [
        ("GET /", "GET", ("",), False),
        ("* /*", "*", (), True),
        ("POST /a/{id}/b", "POST", ("a", None, "b"), False),
        ("GET /a/", "GET", ("a", ""), False),
        ("* /a/*", "*", ("a",), True),
        ("GET /{a}/{b}/*", "GET", (None, None), True),
        ("GET /.well-known/a.b/%20caf%C3%A9", "GET", (".well-known", "a.b", "%20caf%C3%A9"), False),
    ],
)
def test_templates_are_parsed(text: str, method: str, segments: tuple[str | None, ...], has_rest: bool) -> None:
    template = Template(text)

    assert (template.method, template.segments, template.has_rest) == (method, segments, has_rest)


def test_parameters_know_their_segments() -> None:
    assert Template("GET /a/{x}/b/{y_2}").params == (("x", 1), ("y_2", 3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/a", "write a method"),
        ("GET a", "begins with `/`"),
        ("GET", "one space"),
        ("GET  /a", "one space"),
        ("", "write a method"),
        ("get /a", "in capitals"),
        ("PURGE /a", "one of DELETE, GET"),
        ("GET /a//b", "shortest form"),
        ("GET //", "shortest form"),
        ("GET //*", "shortest form"),
        ("GET /a/../b", "shortest form"),
        ("GET /./b", "shortest form"),
        ("GET /a/*/b", "may only close"),
        ("GET /a*", "may only close"),
        ("GET /a/**", "may only close"),
        ("GET /a{id}", "whole segment"),
        ("GET /{}", "whole segment"),
        ("GET /{a-b}", "whole segment"),
        ("GET /{*}", "whole segment"),
        ("GET /{a}/{a}", "only once"),
        ("GET /a;b", "%XX"),
        ("GET /a b", "%XX"),
        ("GET /café", "%XX"),
        ("GET /caf%c3%a9", "in capitals"),
        ("GET /%61", "%XX"),
        ("GET /a%2Fb", "%XX"),
        ("GET /a\\b", "%XX"),
        ("GET /a?b", "%XX"),
        ("GET /%zz", "%XX"),
    ],
)
def test_errors_say_what_to_write(text: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words.replace("*", r"\*")):
        Template(text)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("/*", "/"),
        ("/*", "/a/b/"),
        ("/*", "/a/*"),
        ("/a/*", "/a"),
        ("/a/*", "/a/"),
        ("/a/*", "/a/{x}/*"),
        ("/{x}", "/a"),
        ("/{x}/*", "/a"),
        ("/{x}/b/*", "/a/b/c"),
    ],
)
def test_wider_template_covers_the_narrower(wide: str, narrow: str) -> None:
    a, b = Template(f"GET {wide}"), Template(f"GET {narrow}")

    assert (a.covers(b), b.covers(a)) == (True, False)
    assert (a.overlaps(b), b.overlaps(a)) == (True, True)
    assert b.specificity < a.specificity


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("/a", "/b", False),
        ("/a", "/a/", False),
        ("/a", "/a/b", False),
        ("/{x}", "/", False),
        ("/a/{x}", "/a/", False),
        ("/a/{x}", "/a", False),
        ("/a/{x}", "/{y}/b", True),
        ("/a/*", "/{x}/b", True),
        ("/a/b/*", "/{x}", False),
        ("/{x}/", "/a/{y}", False),
    ],
)
def test_overlap_needs_a_common_path(one: str, other: str, overlap: bool) -> None:
    a, b = Template(f"GET {one}"), Template(f"GET {other}")

    assert (a.overlaps(b), b.overlaps(a)) == (overlap, overlap)
    assert not a.covers(b)
    assert not b.covers(a)


def test_get_takes_head_and_star_takes_all() -> None:
    assert Template("GET /").methods == {"GET", "HEAD"}
    assert Template("PUT /").methods == {"PUT"}
    assert Template("* /").methods == {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
