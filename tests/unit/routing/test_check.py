import pytest

from proxy.routing import RouteProblem, by_specificity, check_routes

EXAMPLE = [
    ("search", ["GET /search"]),
    ("properties-list", ["GET /properties"]),
    ("property-create", ["POST /properties"]),
    ("price-history", ["GET /properties/{id}/price-history"]),
    ("property", ["GET /properties/{id}"]),
    ("property-write", ["PUT /properties/{id}", "PATCH /properties/{id}", "DELETE /properties/{id}"]),
    ("admin-api", ["* /admin/*"]),
    ("everything-else", ["* /*"]),
]


def test_usual_routes_have_no_problem() -> None:
    assert check_routes(EXAMPLE) == []


def test_all_problems_are_reported_at_once() -> None:
    problems = check_routes(
        [("a", ["get /a", "GET /x/{id}"]), ("b", ["GET /{y}/b", "GET a"]), ("c", ["GET /x/{other}"])]
    )

    assert [(problem.route, problem.match) for problem in problems] == [
        ("a", "get /a"),
        ("b", "GET /{y}/b"),
        ("b", "GET a"),
        ("c", "GET /x/{other}"),
        ("c", "GET /x/{other}"),
    ]
    assert "`GET /x/{id}` of route `a`" in problems[1].message
    assert "neither is the more specific" in problems[1].message


def test_identical_matches_are_ambiguous() -> None:
    assert check_routes([("a", ["GET /x/{id}"]), ("b", ["GET /x/{name}"])]) == [
        RouteProblem("b", "GET /x/{name}", "the same requests match `GET /x/{id}` of route `a`")
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("GET /a/{x}", "GET /{y}/b"),
        ("* /a/*", "GET /{y}/b"),
        ("GET /a/{x}", "HEAD /{y}/b"),
        ("* /a/{x}", "* /{y}/b"),
        ("* /a", "* /a"),
    ],
)
def test_overlap_without_an_order_is_ambiguous(one: str, other: str) -> None:
    assert len(check_routes([("a", [one]), ("b", [other])])) == 1
    assert len(check_routes([("a", [other, one])])) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("GET /a/{x}", "POST /{y}/b"),
        ("GET /a", "HEAD /a"),
        ("GET /a", "* /a"),
        ("* /a/*", "GET /a/{x}"),
        ("GET /a/{x}/c", "GET /{y}/b/d"),
    ],
)
def test_what_has_an_order_or_no_common_request_is_fine(one: str, other: str) -> None:
    assert check_routes([("a", [one]), ("b", [other])]) == []


def test_matches_sort_from_specific_to_general() -> None:
    matches = [match for _, matches in EXAMPLE for match in matches]

    ordered = by_specificity(matches[::-1])

    assert ordered.index("* /*") == len(ordered) - 1
    assert ordered.index("GET /properties") < ordered.index("GET /properties/{id}") < ordered.index("* /*")
    assert by_specificity(["* /a", "GET /a/*", "GET /a"]) == ["GET /a", "* /a", "GET /a/*"]
