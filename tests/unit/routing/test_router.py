from collections.abc import Mapping

import pytest

from proxy.config.model import RouteConfig
from proxy.errors import AmbiguousPath, BadRequest, MethodNotAllowed, NotFound
from proxy.routing import Router


def router_for(*matches: str) -> Router[str]:
    """One route for each match, named by it, with the name in lower case as target."""
    return Router([(RouteConfig(name=match, match=(match,), upstream="u"), match.lower()) for match in matches])


def picked(router: Router[str], method: str, path: str) -> str:
    return router.match(method, path).route.name


REST = router_for(
    "GET /properties",
    "POST /properties",
    "GET /properties/{id}",
    "PUT /properties/{id}",
    "GET /properties/{id}/history",
    "GET /properties/new",
    "* /admin/*",
)


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/properties", "GET /properties"),
        ("POST", "/properties", "POST /properties"),
        ("GET", "/properties/7", "GET /properties/{id}"),
        ("PUT", "/properties/7", "PUT /properties/{id}"),
        ("GET", "/properties/7/history", "GET /properties/{id}/history"),
        ("GET", "/properties/new", "GET /properties/new"),
        ("PUT", "/properties/new", "PUT /properties/{id}"),
        ("GET", "/properties/new/history", "GET /properties/{id}/history"),
        ("HEAD", "/properties/7", "GET /properties/{id}"),
        ("GET", "/admin", "* /admin/*"),
        ("PATCH", "/admin/", "* /admin/*"),
        ("DELETE", "/admin/x/y/", "* /admin/*"),
    ],
)
def test_most_specific_path_that_takes_the_method_wins(method: str, path: str, name: str) -> None:
    assert picked(REST, method, path) == name


@pytest.mark.parametrize(
    "path",
    ["/", "/propertie", "/properties/", "/properties/7/", "/Properties", "/ADMIN", "/administrator", "/a" * 5000],
)
def test_path_without_route_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        REST.match("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/properties", "GET, HEAD, POST"),
        ("POST", "/properties/7", "GET, HEAD, PUT"),
        ("POST", "/properties/new", "GET, HEAD, PUT"),
        ("BREW", "/admin/x", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
    ],
)
def test_path_without_the_method_lists_those_it_has(method: str, path: str, allow: str) -> None:
    with pytest.raises(MethodNotAllowed) as raised:
        REST.match(method, path)

    assert raised.value.allow == allow


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/properties/a%20b", {"id": "a%20b"}),
        ("/properties/a:b@c", {"id": "a:b@c"}),
        ("/properties", {}),
        ("/admin", {"*": ""}),
        ("/admin/", {"*": "/"}),
        ("/admin/x%20y/z/", {"*": "/x%20y/z/"}),
    ],
)
def test_parameters_come_as_they_were_sent(path: str, params: Mapping[str, str]) -> None:
    match = REST.match("GET", path)

    assert match.params == params
    assert match.target == match.route.name.lower()


def test_star_covers_every_path() -> None:
    router = router_for("* /*")

    for path in ("/", "/a", "//a", "/a/../b", "/%2e"):
        assert router.match("GET", path).params == {"*": path}


def test_trailing_slash_is_significant() -> None:
    router = router_for("GET /a", "GET /a/", "GET /")

    assert picked(router, "GET", "/a/") == "GET /a/"
    assert picked(router, "GET", "/") == "GET /"


def test_head_written_out_is_not_taken_by_get() -> None:
    router = router_for("GET /a", "HEAD /a", "* /a")

    assert picked(router, "HEAD", "/a") == "HEAD /a"
    assert picked(router, "GET", "/a") == "GET /a"
    assert picked(router, "PUT", "/a") == "* /a"


def test_get_takes_head_before_star() -> None:
    assert picked(router_for("* /a", "GET /a"), "HEAD", "/a") == "GET /a"


def test_search_goes_back_to_the_parameter() -> None:
    router = router_for("GET /a/b/c", "GET /a/{x}/d", "GET /{y}/b/e", "GET /{z}/*")

    assert router.match("GET", "/a/b/d").params == {"x": "b"}
    assert router.match("GET", "/a/b/e").params == {"y": "a"}
    assert router.match("GET", "/a/b/f").params == {"z": "a", "*": "/b/f"}


def test_tree_full_of_alternatives_is_searched_to_its_end() -> None:
    depth = 9
    shapes = [[(f"{{p{at}}}", "s")[shape >> at & 1] for at in range(depth)] for shape in range(2**depth)]
    router = router_for(*(f"GET /{'/'.join(shape)}/end{number}" for number, shape in enumerate(shapes)))

    with pytest.raises(NotFound):
        router.match("GET", "/s" * depth + "/nowhere")

    assert router.match("GET", "/s" * depth + "/end0").params == {f"p{at}": "s" for at in range(depth)}


def test_routes_with_errors_make_no_router() -> None:
    with pytest.raises(ValueError, match="same requests"):
        router_for("GET /{a}", "GET /{b}")


# --- paths that servers read differently ----------------------------------------------------------------------------

GUARDED = router_for("* /admin/*", "* /*")


@pytest.mark.parametrize(
    "path",
    [
        *("//admin", "/./admin", "/x/../admin", "/%61dmin", "/admin%2f", "/a%2f..%2fadmin", "/admin;x", "/\\admin"),
        *("/%5cadmin", "/admin%5c", "/admin/../x", "/x/..;/admin", "/admin/..%2fx", "/%41DMIN/../admin", "//admin//x"),
        *("/public/%2e%2e/admin/x%2f..%2f..%2f..%2fpublic", "/x//../admin", "/admin%3Bx", "/.//admin"),
    ],
)
def test_spelling_that_could_slip_past_a_policy_is_refused(path: str) -> None:
    with pytest.raises(AmbiguousPath):
        GUARDED.match("GET", path)


@pytest.mark.parametrize(
    "path", ["/a%2fb", "//x", "/x/../y", "/a;b=c", "/bob%40x.com", "/%7Ebob", "/\\evil", "/ADMIN", "/x%2525", "/é"]
)
def test_odd_spelling_that_changes_nothing_passes(path: str) -> None:
    assert picked(GUARDED, "GET", path) == "* /*"


@pytest.mark.parametrize("path", ["/admin//x", "/admin/./x", "/admin/a%2Fb", "/admin/a;b", "/admin/%41"])
def test_odd_spelling_within_one_route_passes(path: str) -> None:
    assert picked(GUARDED, "GET", path) == "* /admin/*"


@pytest.mark.parametrize("path", ["/admin%00", "/x/%0d%0a", "/admin%7F", "/%zz", "/x%"])
def test_control_bytes_and_malformed_escapes_are_refused_everywhere(path: str) -> None:
    with pytest.raises(BadRequest):
        GUARDED.match("GET", path)


def test_path_that_only_one_reading_finds_is_refused() -> None:
    router = router_for("GET /admin")

    with pytest.raises(AmbiguousPath):
        router.match("GET", "//admin")
    with pytest.raises(AmbiguousPath):
        router.match("GET", "/admin;x")


def test_path_that_no_reading_finds_is_not_found() -> None:
    with pytest.raises(NotFound):
        router_for("GET /admin").match("GET", "//x")


def test_raw_parameter_of_an_odd_path_is_kept() -> None:
    router = router_for("GET /users/{id}")

    assert router.match("GET", "/users/bob%40x").params == {"id": "bob%40x"}
    with pytest.raises(AmbiguousPath):
        router.match("GET", "/users/a%2Fb")


def test_outcomes_tell_every_reading() -> None:
    assert GUARDED.outcomes("GET", "/admin;x") == {"/admin;x": "* /*", "/admin": "* /admin/*"}
    assert router_for("GET /a").outcomes("PUT", "/a") == {"/a": ""}
