from collections.abc import Mapping

import pytest

from proxy.errors import AmbiguousPath
from proxy.routing import Rewrite, check_rewrite


@pytest.mark.parametrize(
    ("template", "params", "query", "target"),
    [
        ("/v2/properties/{id}", {"id": "7"}, None, "/v2/properties/7"),
        ("/v2/{b}/{a}/", {"a": "1", "b": "2"}, "x=1", "/v2/2/1/?x=1"),
        ("/fixed%20path", {"id": "7"}, "", "/fixed%20path?"),
        ("/{id}", {"id": "{x}%2F"}, "?", "/{x}%2F??"),
        ("/v2/*", {"*": ""}, None, "/v2"),
        ("/v2/*", {"*": "/"}, None, "/v2/"),
        ("/v2/*", {"*": "/a//b"}, None, "/v2/a//b"),
        ("/*", {"*": "/a"}, None, "/a"),
        ("/*", {"*": ""}, None, "/"),
        ("/*", {"*": ""}, "q", "/?q"),
    ],
)
def test_target_is_made_from_the_parameters(
    template: str, params: Mapping[str, str], query: str | None, target: str
) -> None:
    assert Rewrite(template).apply(params, query) == target


@pytest.mark.parametrize("rest", ["/../x", "/a/..", "/%2e%2e/x", "/a%2f..%2f..%2fx", "/..\\x", "/..;/x", "/."])
def test_rest_cannot_climb_out_of_its_place(rest: str) -> None:
    with pytest.raises(AmbiguousPath):
        Rewrite("/v2/*").apply({"*": rest}, None)


@pytest.mark.parametrize(
    ("template", "matches"),
    [
        ("/v2/{id}", ["GET /p/{id}", "PUT /p/{id}/{more}"]),
        ("/v2/*", ["* /old/*"]),
        ("/v2", ["* /old/*"]),
        ("/v2/{id}", ["not a match"]),
    ],
)
def test_rewrite_that_every_match_can_fill_is_right(template: str, matches: list[str]) -> None:
    assert check_rewrite(template, matches) == ""


@pytest.mark.parametrize(
    ("template", "matches", "words"),
    [
        ("/v2/{id}", ["GET /p/{id}", "GET /q/{key}"], "uses `{id}`, which `GET /q/{key}` does not have"),
        ("/v2/{id}/*", ["GET /p"], "uses a closing `/*` and `{id}`, which `GET /p` does not have"),
        ("v2", ["GET /p"], "begins with `/`"),
        ("/v2//x", ["GET /p"], "shortest form"),
    ],
)
def test_wrong_rewrite_is_explained(template: str, matches: list[str], words: str) -> None:
    assert words in check_rewrite(template, matches)
