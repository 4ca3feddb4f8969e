"""The configuration of caching: short forms, defaults, mistakes and doubts."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.config.caching import CacheConfig, CacheStoreConfig, InvalidateConfig, WarmConfig
from proxy.config.effective import effective, policies_of
from proxy.config.model import Config, RouteConfig
from proxy.config.policies import FallbackStep
from proxy.config.policy_types import ClientKey, Rate
from proxy.config.presets import CACHE_PRESETS
from tests.support.policies import ROUTES, UPSTREAMS, load_text, problems_of, with_route


def route_with(folder: Path, settings: str, before: str = "", match: str = "GET /x/{id}") -> RouteConfig:
    text = f"{before}{UPSTREAMS}routes:\n  - {{name: r, match: '{match}', {settings}}}\n"
    return load_text(folder, text).config.routes[0]


def store(folder: Path, section: str) -> CacheStoreConfig:
    return load_text(folder, f"cache: {section}\n{UPSTREAMS}{ROUTES}").config.cache


# --- forms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "cache"),
    [
        ("{}", CacheConfig()),
        ("5m", CacheConfig(ttl=300.0)),
        ("{ttl: 5m}", CacheConfig(ttl=300.0)),
        ("price_history", CacheConfig(ttl=86_400.0)),
        ("{query: [], ignore_query: [utm_source]}", CacheConfig(query=(), ignore_query=("utm_source",))),
        ("{query: ['filter[a]', 'filter%5Ba%5D']}", CacheConfig(query=("filter[a]", "filter%5Ba%5D"))),
        ("{per_user: 'header:X-User-ID'}", CacheConfig(per_user=(ClientKey("header", "X-User-ID"),))),
        ("{per_user: [api_key, 'param:id']}", CacheConfig(per_user=(ClientKey("api_key"), ClientKey("param", "id")))),
        ("{negative_ttl: off, stale_if_error: none}", CacheConfig()),
        ("{negative_ttl: 10s, set_cookie: store}", CacheConfig(negative_ttl=10.0, set_cookie="store")),
        ("{tags: ['a:{id}', a-b.c~d:_e]}", CacheConfig(tags=("a:{id}", "a-b.c~d:_e"))),
        ("{key: 'p:{id}:{query.a}/{hash}'}", CacheConfig(key="p:{id}:{query.a}/{hash}")),
        ("{mode: shadow}", CacheConfig(mode="shadow")),
        ("off", None),
        ("none", None),
        ("{ttl: 5m, mode: off}", None),
    ],
)
def test_cache_may_be_written_in_short(tmp_path: Path, written: str, cache: CacheConfig | None) -> None:
    assert route_with(tmp_path, f"cache: {written}").cache == cache


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        *dict.fromkeys([("search", 300), ("trending", 300), ("suburbs", 600), ("alerts", 1800)]),
        *((name, 3600) for name in ("details", "listings", "aggregates")),
        *((name, 86_400) for name in ("price_history", "static")),
    ],
)
def test_presets_say_how_long(tmp_path: Path, name: str, seconds: int) -> None:
    assert route_with(tmp_path, f"cache: {name}").cache == CacheConfig(ttl=seconds)
    assert name in CACHE_PRESETS


@pytest.mark.parametrize(
    ("written", "tags"),
    [
        ("a", ("a",)),
        ("'a:{id}'", ("a:{id}",)),
        ("['a:*', '*']", ("a:*", "*")),
        ("{tags: [a], mode: enforce}", ("a",)),
    ],
)
def test_invalidate_may_be_written_in_short(tmp_path: Path, written: str, tags: tuple[str, ...]) -> None:
    route = route_with(tmp_path, f"invalidate: {written}", match="POST /x/{id}")

    assert route.invalidate == InvalidateConfig(tags=tags)


@pytest.mark.parametrize("written", ["off", "none", "{tags: [a], mode: off}"])
def test_invalidate_may_be_off(tmp_path: Path, written: str) -> None:
    assert route_with(tmp_path, f"invalidate: {written}", match="POST /x").invalidate is None


def test_words_are_steps_of_a_fallback(tmp_path: Path) -> None:
    route = route_with(tmp_path, "cache: {}, fallback: [stale, {last_known_good: true}, {null_fields: a}]")

    assert route.fallback is not None
    assert route.fallback.steps == (
        FallbackStep(stale=True),
        FallbackStep(last_known_good=True),
        FallbackStep(null_fields=("a",)),
    )


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{}", CacheStoreConfig()),
        ("{max_bytes: 1GiB, compress_above: off}", CacheStoreConfig(max_bytes=1 << 30, compress_above=None)),
        ("{warm: off}", CacheStoreConfig()),
        ("{warm: [/a, /b?c=d]}", CacheStoreConfig(warm=WarmConfig(urls=("/a", "/b?c=d")))),
        (
            "{warm: {from: '/a?sort=views', rate: 5/s, limit: 10, ready: true}}",
            CacheStoreConfig(
                warm=WarmConfig.model_validate(
                    {"from": "/a?sort=views"} | {"rate": Rate(5, 1.0)} | {"limit": 10, "ready": True}
                )
            ),
        ),
    ],
)
def test_section_describes_the_memory(tmp_path: Path, section: str, expected: CacheStoreConfig) -> None:
    assert store(tmp_path, section).model_dump() == expected.model_dump()


def test_without_a_section_there_is_a_memory_of_the_default_size(tmp_path: Path) -> None:
    assert load_text(tmp_path, UPSTREAMS + ROUTES).config.cache == CacheStoreConfig()


# --- defaults -------------------------------------------------------------------------------------------------------

DEFAULTS = "defaults: {cache: {ttl: 1h, stale_if_error: 1d}, invalidate: {tags: [a, b], mode: shadow}}\n"


def test_cache_merges_with_the_defaults_key_by_key(tmp_path: Path) -> None:
    route = route_with(tmp_path, "cache: {tags: [a], ttl: 5m}", DEFAULTS)

    assert route.cache == CacheConfig(ttl=300.0, stale_if_error=86_400.0, tags=("a",))


def test_short_form_keeps_the_other_keys_of_the_defaults(tmp_path: Path) -> None:
    route = route_with(tmp_path, "cache: search", DEFAULTS)

    assert route.cache == CacheConfig(ttl=300.0, stale_if_error=86_400.0)


def test_off_on_a_route_ends_what_the_defaults_say(tmp_path: Path) -> None:
    route = route_with(tmp_path, "cache: off, invalidate: off", DEFAULTS, match="* /x")

    assert (route.cache, route.invalidate) == (None, None)


def test_tags_to_invalidate_replace_those_of_the_defaults(tmp_path: Path) -> None:
    assert route_with(tmp_path, "invalidate: c", DEFAULTS, match="POST /x").invalidate == InvalidateConfig(tags=("c",))


@pytest.mark.parametrize(
    ("match", "has_cache", "has_invalidate"),
    [
        ("GET /x", True, False),
        ("HEAD /x", True, False),
        ("OPTIONS /x", False, False),
        ("POST /x", False, True),
        ("* /x", True, True),
    ],
)
def test_defaults_are_for_routes_that_read_or_write(
    tmp_path: Path, match: str, has_cache: bool, has_invalidate: bool
) -> None:
    route = route_with(tmp_path, "criticality: critical", DEFAULTS, match=match)

    assert (route.cache is not None, route.invalidate is not None) == (has_cache, has_invalidate)


# --- for people -----------------------------------------------------------------------------------------------------

EVERYTHING = """\
cache: {warm: {from: /x, ready: true}}
upstreams: {api: {url: 'http://127.0.0.1:3000'}}
defaults: {cache: {stale_if_error: 1d}}
routes:
  - {name: r, match: 'GET /x/{id}', cache: {ttl: 5m, mode: shadow},
     fallback: [stale, last_known_good, {null_fields: a}]}
  - {name: w, match: 'POST /x', invalidate: [a, 'b:*']}
"""


def config(folder: Path, text: str = EVERYTHING) -> Config:
    return load_text(folder, text).config


def test_printed_configuration_is_spelled_as_in_the_file(tmp_path: Path) -> None:
    printed = effective(config(tmp_path))

    route: dict[str, Any] = printed["routes"][0]
    assert route["fallback"]["steps"] == ["stale", "last_known_good", {"null_fields": ["a"]}]
    assert (route["cache"]["ttl"], route["cache"]["negative_ttl"]) == ("5m", "off")
    assert printed["cache"]["max_bytes"] == "64MiB"
    assert printed["cache"]["warm"]["from"] == "/x"
    assert printed["routes"][1]["invalidate"]["tags"] == ["a", "b:*"]
    json.dumps(printed)


def test_routes_name_cache_and_invalidation(tmp_path: Path) -> None:
    reads, writes = config(tmp_path).routes

    assert policies_of(reads) == ["fallback", "cache (shadow)"]
    assert policies_of(writes) == ["invalidate"]


def test_every_value_says_where_it_comes_from(tmp_path: Path) -> None:
    origins = load_text(tmp_path, EVERYTHING).origins

    assert origins["routes", "r", "cache.ttl"] == "route, line 5"
    assert origins["routes", "r", "cache.stale_if_error"] == "defaults, line 3"
    assert origins["routes", "r", "cache.query"] == "built in"
    assert origins["routes", "w", "invalidate"] == "route, line 7"
    assert origins["cache", "warm"] == "written, line 1"
    assert origins["cache", "max_bytes"] == "built in"


@pytest.mark.parametrize(
    "change", [("5m", "6m"), ("ready: true", "ready: false"), ("stale, last", "last"), ("a, 'b", "c, 'b")]
)
def test_digest_covers_caching(tmp_path: Path, change: tuple[str, str]) -> None:
    assert config(tmp_path).digest != config(tmp_path, EVERYTHING.replace(*change)).digest


# --- mistakes -------------------------------------------------------------------------------------------------------

NO_TAG = "is not a tag, which is words of letters, digits, _ . ~ - and {parameters}, with one : between them"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("cache: true", "true says nothing about it: {} is the standard alone, a duration such as 5m a lifetime"),
        ("cache: 5", "5 is not a duration: write a number and a unit"),
        ("cache: [5m]", "is not a duration"),
        ("cache: slow", '"slow" is no cache: write a duration such as 5m, or a preset: search, trending, suburbs'),
        ("cache: {ttl: 0s}", "0s"),
        ("cache: {tag: [a]}", 'unknown key "tag" in cache of route "r": did you mean "tags"?'),
        ("cache: {tags: ['a=b']}", NO_TAG),
        ("cache: {tags: ['a:*']}", NO_TAG),
        ("cache: {tags: ['a::b']}", NO_TAG),
        ("cache: {tags: ['a:{']}", NO_TAG),
        ("cache: {tags: ['route=r']}", NO_TAG),
        (f"cache: {{tags: ['{'a' * 257}']}}", NO_TAG),
        ("cache: {tags: ['a:{other}']}", 'GET /x/{id} has no parameter {other} for the tag "a:{other}"'),
        ("cache: {key: 'a {id}'}", "is not a key, which is text with {parameters}, {query.NAME}, {user} and {hash}"),
        ("cache: {key: 'a{'}", "is not a key"),
        ("cache: {key: '{other}'}", "GET /x/{id} has no parameter {other} for the key"),
        ("cache: {key: '{user}'}", "the key has {user}: say in `per_user` who that is"),
        ("cache: {key: '{query.a}', query: [b]}", "the key has {query.a}, which `query` and `ignore_query` leave out"),
        ("cache: {key: '{query.a}', ignore_query: [a]}", "the key has {query.a}, which"),
        ("cache: {query: [a, b], ignore_query: [b]}", '"b" is in `query` and in `ignore_query`: it either counts or'),
        ("cache: {query: ['a=b']}", '"a=b" is not the name of a query parameter, such as suburb'),
        ("cache: {query: a}", "write a list"),
        ("cache: {per_user: user}", '"user" tells no clients apart: write client_ip, api_key, header:NAME'),
        ("cache: {per_user: 'param:name'}", "GET /x/{id} has no parameter {name} for `per_user`"),
        ("cache: {respect_origin: false}", "`respect_origin: false` needs a `ttl`: nothing else would say how long"),
        ("cache: {set_cookie: keep}", '"keep" is not allowed: write refuse or store'),
        ("cache: {vary: ['*']}", '"*" is not a header name, such as X-Market'),
        ("fallback: [last_known_good]", '`last_known_good` is what the cache holds, and route "r" has none'),
        ("cache: {mode: off}, fallback: [stale]", "`stale` is what the cache holds"),
        (
            "cache: {}, fallback: [fresh]",
            '"fresh" is no step: write stale, last_known_good or a mapping such as {static: …}',
        ),
        ("cache: {}, fallback: [{stale: false}]", "false is not allowed: write true"),
        ("cache: {}, fallback: [{stale: true, file: a}]", "a step of a fallback has exactly one of static, file"),
        ("invalidate: []", "must not be empty"),
        ("invalidate: ['a:*:b']", NO_TAG),
        ("invalidate: ['a*']", NO_TAG),
        ("invalidate: ['user=1']", NO_TAG),
    ],
)
def test_a_mistake_says_what_is_allowed(tmp_path: Path, setting: str, expected: str) -> None:
    (problem,) = problems_of(tmp_path, with_route(setting))

    assert expected in problem


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("off", "write keys and values"),
        ("{warm: {}}", "nothing to fetch: write `urls: [/path]`, or `from: /path` of the upstream that lists them"),
        ("{warm: {urls: []}}", "nothing to fetch"),
        ("{warm: [a]}", '"a" is not a path'),
        ("{warm: {from: /a, source: /b}}", 'unknown key "source" in cache.warm'),
        ("{warm: {form: /a}}", 'did you mean "from"?'),
        ("{max_entries: 0}", "0 is too small"),
        ("{max_byte: 1KiB}", 'did you mean "max_bytes"?'),
    ],
)
def test_a_mistake_in_the_section_says_what_is_allowed(tmp_path: Path, section: str, expected: str) -> None:
    problems = problems_of(tmp_path, f"cache: {section}\n{UPSTREAMS}{ROUTES}")

    assert any(expected in problem for problem in problems)


@pytest.mark.parametrize(
    ("match", "setting", "expected"),
    [
        ("POST /x", "cache: 5m", 'route "r" takes no GET: there is nothing to cache'),
        ("OPTIONS /x", "cache: {}", 'route "r" takes no GET: there is nothing to cache'),
        ("POST /x", "invalidate: 'a:{id}'", 'POST /x has no parameter {id} for the tag "a:{id}"'),
        ("POST /x", "invalidate: {tags: [b, 'a:{id}:*']}", 'POST /x has no parameter {id} for the tag "a:{id}:*"'),
    ],
)
def test_a_mistake_depends_on_the_match(tmp_path: Path, match: str, setting: str, expected: str) -> None:
    (problem,) = problems_of(tmp_path, f"{UPSTREAMS}routes:\n  - {{name: r, match: '{match}', {setting}}}\n")

    assert expected in problem


def test_templates_need_the_parameters_of_the_matches_they_are_for(tmp_path: Path) -> None:
    matches = '["GET /x/{id}", "POST /x"]'

    good = f"{UPSTREAMS}routes:\n  - {{name: r, match: {matches}, cache: {{tags: ['a:{{id}}']}}, invalidate: a}}\n"

    assert problems_of(tmp_path, good) == []


def test_mistake_in_the_defaults_is_told_at_the_route_that_it_is_one_for(tmp_path: Path) -> None:
    text = f"defaults: {{cache: {{tags: ['a:{{id}}']}}}}\n{UPSTREAMS}routes:\n  - {{name: r, match: GET /x}}\n"

    assert problems_of(tmp_path, text) == ['5:5: GET /x has no parameter {id} for the tag "a:{id}"']


def test_each_tag_is_told_in_its_place(tmp_path: Path) -> None:
    text = f"{UPSTREAMS}routes:\n  - {{name: r, match: POST /x, invalidate: [a, 'b:{{c}}', 'd:{{e}}']}}\n"

    assert [problem.split(":")[1] for problem in problems_of(tmp_path, text)] == ["47", "56"]


# --- doubts ---------------------------------------------------------------------------------------------------------

READ = "  - {{name: r, match: 'GET /x/{{id}}', {settings}}}\n"
WRITE = "  - {{name: w, match: '{match}', invalidate: {tags}}}\n"


def warnings(folder: Path, settings: str = "cache: {tags: ['a:{id}']}", before: str = "", more: str = "") -> list[str]:
    text = f"{before}{UPSTREAMS}routes:\n{READ.format(settings=settings)}{more}"
    return [problem.message.removeprefix("warning: ") for problem in load_text(folder, text).warnings]


@pytest.mark.parametrize(
    ("settings", "before", "expected"),
    [
        ("cache: {max_body: 17MiB}", "", '`max_body` of route "r" (17MiB) is more than a quarter of the memory'),
        ("cache: {}", "cache: {max_bytes: 1MiB}\n", "what is longer than 256KiB is not kept in it"),
        ("cache: {max_body: 16MiB}", "server: {workers: 2}\nredis: redis://a\n", "what is longer than 8MiB is not"),
        (
            "cache: {stale_while_revalidate: 1h, stale_if_error: 1h}",
            "",
            "`stale_if_error` (1h) adds nothing: a stale response is sent for 1h anyway (`stale_while_revalidate`)",
        ),
        (
            "cache: {mode: shadow}, fallback: [stale]",
            "",
            "a cache in `mode: shadow` holds nothing that `fallback` could",
        ),
        ("cache: {mode: shadow, enforce_percent: 5%}", "", "`enforce_percent` says nothing in `mode: shadow`"),
        ("cache: off", "cache: {warm: [/a]}\n", "no route has a cache that could be warmed"),
        (
            "cache: {}",
            "cache: {warm: [/a]}\nserver: {hosts: [a.test]}\n",
            "`host` should be one that is served, or nobody finds what is warm: a.test",
        ),
        ("cache: {}", "server: {workers: 2}\n", "without `redis` each worker has a cache of its own"),
    ],
)
def test_what_is_rarely_meant_is_a_warning(tmp_path: Path, settings: str, before: str, expected: str) -> None:
    (warning,) = warnings(tmp_path, settings, before)

    assert expected in warning


@pytest.mark.parametrize(
    ("settings", "before"),
    [
        ("cache: {max_body: 16MiB}", ""),
        ("cache: {stale_while_revalidate: 1m, stale_if_error: 1h}", ""),
        ("cache: {}, fallback: [stale, last_known_good, {static: {}}]", ""),
        ("cache: {}", "cache: {warm: {urls: [/a], host: a.test}}\nserver: {hosts: [a.test]}\n"),
        ("cache: {}", "server: {workers: 2}\nredis: redis://localhost\n"),
        ("cache: off", "server: {workers: 2}\n"),
    ],
)
def test_what_is_plain_is_no_warning(tmp_path: Path, settings: str, before: str) -> None:
    assert warnings(tmp_path, settings, before) == []


@pytest.mark.parametrize(
    ("tags", "unknown"),
    [
        ("['a:1', 'a:*', a, 'a:{id}', '*']", []),
        ("['a:1:b']", ["a:1:b"]),
        ("[b, 'b:*', a]", ["b", "b:*"]),
        ("['{id}']", []),
    ],
)
def test_tag_that_nothing_carries_is_a_warning(tmp_path: Path, tags: str, unknown: list[str]) -> None:
    found = warnings(tmp_path, more=WRITE.format(match="POST /y/{id}", tags=tags))

    assert found == [f'no cache has a tag that "{tag}" could mean' for tag in unknown]


def test_invalidation_on_a_route_that_only_reads_is_a_warning(tmp_path: Path) -> None:
    found = warnings(tmp_path, more=WRITE.format(match="GET /y", tags="a"))

    assert found == ['route "w" takes only GET, HEAD and OPTIONS, which change nothing']
