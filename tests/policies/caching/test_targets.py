"""From a URL to the tags of what is stored for it."""

import pytest

from proxy.config.caching import CacheConfig
from proxy.config.model import RouteConfig
from proxy.policies.caching.targets import Target, Targets
from proxy.protocol.caching.keys import CacheKey, KeyMaker
from proxy.routing import Router

CACHED = RouteConfig(name="details", match=("GET /properties/{id}",), upstream="api", cache=CacheConfig())
SEARCH = RouteConfig(name="search", match=("GET /search",), upstream="api", cache=CacheConfig())
OTHER = RouteConfig(name="other", match=("* /*",), upstream="api")
MAKERS = {
    "details": KeyMaker("details", "api", ignore_query=["utm"], tag_templates=["property:{id}"]),
    "search": KeyMaker("search", "api", query=["q", "page"]),
}


@pytest.fixture
def targets() -> Targets:
    targets = Targets(MAKERS)
    targets.bind(Router([(route, None) for route in (CACHED, SEARCH, OTHER)]))
    return targets


def key_of(maker: str, authority: str, path: str, query: str | None = None, **params: str) -> CacheKey:
    key = MAKERS[maker].make(authority, "http", path, query, params)
    assert isinstance(key, CacheKey)
    return key


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/properties/7", key_of("details", "a", "/properties/7", id="7")),
        ("/properties/7?utm=x", key_of("details", "a", "/properties/7", "utm=x", id="7")),
        ("/properties/7?", key_of("details", "a", "/properties/7", "", id="7")),
        ("/search?page=1&q=x", key_of("search", "a", "/search", "q=x&page=1")),
    ],
)
def test_tag_is_that_of_what_a_get_would_store(targets: Targets, target: str, key: CacheKey) -> None:
    assert targets.tags_of("a", "http", target) == [f"uri={key.uri}"]
    assert f"uri={key.uri}" in key.tags
    assert targets.path_tags_of(target) == [f"path={key.path}"]
    assert f"path={key.path}" in key.tags


def test_spelling_of_the_authority_does_not_matter_and_others_are_others(targets: Targets) -> None:
    assert targets.tags_of("A:80", "http", "/properties/7") == targets.tags_of("a", "http", "/properties/7")
    assert targets.tags_of("b", "http", "/properties/7") != targets.tags_of("a", "http", "/properties/7")


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/elsewhere", "The route other has no cache."),
        ("/properties/7/photos", "The route other has no cache."),
        ("/properties/a%2fb%00", "No route takes a GET of it: Bad Request."),
    ],
)
def test_what_no_cached_route_takes_has_no_tags(targets: Targets, target: str, why: str) -> None:
    assert targets.tags_of("a", "http", target) == []
    assert targets.path_tags_of(target) == []
    assert targets.find(target) is None
    assert targets.explain(target) == why


def test_path_that_may_be_another_has_no_tags(targets: Targets) -> None:
    assert targets.find("/properties/..%2fsearch") is None


def test_query_that_has_no_key_has_no_tags(targets: Targets) -> None:
    assert targets.tags_of("a", "http", "/search?else=1") == []
    found = targets.find("/search?else=1")
    assert isinstance(found, Target)
    assert (found.route.name, found.path, found.query) == ("search", "/search", "else=1")


def test_without_a_router_there_is_nothing() -> None:
    targets = Targets(MAKERS)

    assert targets.tags_of("a", "http", "/properties/7") == []
    assert targets.explain("/properties/7") == "The routes are not known yet."
    assert repr(targets) == "<Targets ['details', 'search']>"
