"""The tree of templates picks what trying every template in order would pick."""

from itertools import product

from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.config.model import RouteConfig
from proxy.errors import AmbiguousPath, BadRequest, MethodNotAllowed, NotFound
from proxy.protocol.paths import is_plain, normalised, readings
from proxy.routing import Router, check_routes
from proxy.routing.template import Template

SEGMENTS = st.sampled_from(["a", "b", "{x}"])
METHODS = st.sampled_from(["GET", "HEAD", "POST", "*"])
PATHS = ["/" + "/".join(parts) for length in (1, 2, 3) for parts in product(("a", "b", "c", ""), repeat=length)]
PLAIN_PATHS = [path for path in PATHS if is_plain(path)]


@st.composite
def templates(draw: st.DrawFn) -> str:
    parts = draw(st.lists(SEGMENTS, max_size=3))
    named = [part if part != "{x}" else f"{{x{index}}}" for index, part in enumerate(parts)]
    ending = draw(st.sampled_from(["", "/", "/*"]))
    return f"{draw(METHODS)} {'/' + '/'.join(named) if named else ''}{ending or ('' if named else '/')}"


def takes(template: Template, path: str) -> bool:
    segments = path.split("/")[1:]
    head = segments[: len(template.segments)]
    if len(head) < len(template.segments) or (len(segments) > len(head) and not template.has_rest):
        return False
    return all(bool(got) if want is None else got == want for want, got in zip(template.segments, head, strict=True))


def reference(found: list[Template], method: str, path: str) -> str | None:
    """The first in order of specificity; on one path the method itself, GET for HEAD, then `*`."""
    ranks = {method: 0, "GET": 1, "*": 2} if method == "HEAD" else {method: 0, "*": 2}
    able = [template for template in found if takes(template, path) and template.method in ranks]
    best = min(able, key=lambda template: (template.specificity[0], ranks[template.method]), default=None)
    return None if best is None else best.text


@given(st.lists(templates(), min_size=1, max_size=8, unique=True), st.sampled_from(["GET", "HEAD", "POST", "PUT"]))
def test_router_agrees_with_a_linear_search(matches: list[str], method: str) -> None:
    assume(not check_routes([("r", matches)]))
    router = Router([(RouteConfig(name=match, match=(match,), upstream="u"), None) for match in matches])
    parsed = [Template(match) for match in matches]

    for path in PLAIN_PATHS:
        expected = reference(parsed, method, path)
        try:
            assert router.match(method, path).route.name == expected
        except MethodNotAllowed as error:
            assert expected is None
            assert error.allow
            assert any(takes(template, path) for template in parsed)
        except NotFound:
            assert not any(takes(template, path) for template in parsed)


@given(templates(), templates())
def test_relations_of_templates_hold_for_their_paths(one: str, other: str) -> None:
    a, b = Template(one), Template(other)
    paths_of_a = {path for path in PATHS if takes(a, path)}
    paths_of_b = {path for path in PATHS if takes(b, path)}

    if a.covers(b):
        assert paths_of_b <= paths_of_a
    if not a.overlaps(b):
        assert paths_of_a.isdisjoint(paths_of_b)
    if max(len(a.segments), len(b.segments)) < 3:
        assert a.overlaps(b) is not paths_of_a.isdisjoint(paths_of_b)


ODD_PIECES = ["/", "//", "/..", "/.", "%2f", "%2E", "%5C", "\\", ";x", "admin", "public", "%61dmin", "x", "%20", "é"]


@given(st.lists(st.sampled_from(ODD_PIECES), max_size=12).map(lambda pieces: "/" + "".join(pieces)))
def test_no_reading_of_an_accepted_path_leads_elsewhere(path: str) -> None:
    router = Router(
        [
            (RouteConfig(name="admin", match=("* /admin/*",), upstream="u"), None),
            (RouteConfig(name="rest", match=("* /*",), upstream="u"), None),
        ]
    )

    try:
        name = router.match("GET", path).route.name
    except AmbiguousPath:
        return

    for reading in (*readings(path), normalised(path)):
        assert (name == "admin") is (reading == "/admin" or reading.startswith("/admin/"))


@given(st.text(max_size=60).map("/".__add__))
def test_any_path_is_read_or_refused(path: str) -> None:
    try:
        found = readings(path)
    except BadRequest:
        return

    assert found[0] == path
    assert normalised(path) in found
    assert normalised(normalised(path)).count("//") == 0
    assert is_plain(path) is (len(found) == 1)
