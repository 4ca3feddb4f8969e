"""What `tidegate explain` says about the cache."""

import re
from pathlib import Path

import pytest

from proxy.explain import explain
from tests.support.policies import load_text

FILE = """\
upstreams: {{api: {{url: 'http://127.0.0.1:3000'}}}}
routes:
  - {{name: r, match: 'GET /x/{{id}}', cache: {cache}}}
  - {{name: w, match: 'PUT /x/{{id}}', invalidate: {invalidate}}}
  - {{name: any, match: '* /any', cache: {cache}}}
  - {{name: none, match: 'GET /none'}}
"""


def cache_section(
    folder: Path, cache: str = "{}", url: str = "/x/1", method: str = "GET", invalidate: str = "'*'", **headers: str
) -> list[tuple[str, str]]:
    """The lines of the section, as name and text each."""
    loaded = load_text(folder, FILE.format(cache=cache, invalidate=invalidate))
    lines = list(explain(loaded, method, url, [(name.replace("_", "-"), text) for name, text in headers.items()]))
    start = lines.index("Cache") + 1
    found = [re.split(" {2,}", line.strip(), maxsplit=1) for line in lines[start : lines.index("", start)]]
    return [(name, text) for name, text in found]


@pytest.mark.parametrize(
    ("cache", "rows"),
    [
        (
            "{}",
            {
                "answers": "yes, as long as what is stored is fresh",
                "tags": "-",
                "stores": "what the standard allows a shared cache; nothing with Set-Cookie",
                "fresh": "as the response says, else a tenth of the time since Last-Modified, at most 1d",
                "stale": "as the response says",
            },
        ),
        ("5m", {"fresh": "as the response says, else 5m"}),
        ("{ttl: 5m, respect_origin: false}", {"fresh": "5m, whatever the response says"}),
        ("{ttl: 5m, negative_ttl: 1s}", {"fresh": "as the response says, else 5m; 404, 405, 410, 414 and 501 1s"}),
        ("{stale_if_error: 1d}", {"stale": "as the response says, else 1d in place of an error"}),
        (
            "{stale_if_error: 1d, stale_while_revalidate: 1m}",
            {"stale": "as the response says, else 1m while it is fetched anew and 1d in place of an error"},
        ),
        ("{set_cookie: store}", {"stores": "what the standard allows a shared cache"}),
        (
            "{vary: [X-Market]}",
            {
                "stores": "what the standard allows a shared cache; nothing with Set-Cookie; "
                "told apart by X-Market and the response's Vary"
            },
        ),
        ("{mode: shadow}", {"answers": "no, `mode: shadow` only reports that it could"}),
        ("{tags: ['a:b', c]}", {"tags": "a:b, a, c"}),
    ],
)
def test_rules_are_told_in_words(tmp_path: Path, cache: str, rows: dict[str, str]) -> None:
    told = dict(cache_section(tmp_path, cache))

    assert {name: told[name] for name in rows} == rows


def test_key_is_shown_readable_and_as_digest(tmp_path: Path) -> None:
    told = dict(cache_section(tmp_path, "{key: 'list:{query.page}'}", "/x/1?page=2"))

    assert re.fullmatch("list:2 \\([0-9a-f]{32}\\)", told["key"])


def test_what_is_asked_for_is_shown_where_it_differs(tmp_path: Path) -> None:
    assert dict(cache_section(tmp_path, "{ignore_query: [u]}", "/x/1?u=1&a=2"))["asks for"] == "/x/1?a=2"
    assert "asks for" not in dict(cache_section(tmp_path, "{ignore_query: [u]}", "/x/1?a=2"))


@pytest.mark.parametrize(
    ("cache", "request_", "reason"),
    [
        ("{}", {"method": "POST", "url": "/any"}, "POST is neither GET nor HEAD"),
        ("{}", {"Content_Length": "5"}, "the request has a body"),
        ("{}", {"Transfer_Encoding": "chunked"}, "the request has a body"),
        (
            "{query: [a], ignore_query: [b]}",
            {"url": "/x/1?a=1&b=2&c=3"},
            'the parameter "c" is neither in `query` nor in `ignore_query`',
        ),
        ("{query: []}", {"url": "/x/1?c"}, 'the parameter "c" is neither in `query` nor in `ignore_query`'),
        (
            "{per_user: [api_key, 'header:X-User']}",
            {"X_User": "7"},
            "the request has no api_key and header:X-User, by which `per_user` tells users apart",
        ),
        ("{}", {"url": "/none"}, "route none has no `cache`"),
    ],
)
def test_what_is_not_answered_says_why(tmp_path: Path, cache: str, request_: dict[str, str], reason: str) -> None:
    told = cache_section(tmp_path, cache, **request_)

    assert told[0] == ("answers", f"no: {reason}")


@pytest.mark.parametrize(
    ("headers", "answers"),
    [
        ({"Cache_Control": "no-cache"}, "yes, once the upstream has said that what is stored still holds"),
        ({"Cache_Control": "max-age=0"}, "yes, once the upstream has said that what is stored still holds"),
        ({"Pragma": "no-cache"}, "yes, once the upstream has said that what is stored still holds"),
        ({"Cache_Control": "only-if-cached"}, "yes, or 504: the request must not go to the upstream"),
        ({"Range": "bytes=0-1"}, "yes, as long as what is stored is fresh; with the range that the request asks for"),
    ],
)
def test_directives_of_the_request_are_told(tmp_path: Path, headers: dict[str, str], answers: str) -> None:
    assert dict(cache_section(tmp_path, **headers))["answers"].startswith(answers)


@pytest.mark.parametrize(
    ("cache", "headers", "stores"),
    [
        ("{}", {"Cache_Control": "no-store"}, "nothing: the request says no-store"),
        ("{}", {"Cookie": "a=b"}, "because of Cookie only what says public, s-maxage or must-revalidate"),
        (
            "{}",
            {"Cookie": "a=b", "Authorization": "Bearer x"},
            "because of Authorization and Cookie only what says public, s-maxage or must-revalidate",
        ),
        (
            "{per_user: 'cookie:a'}",
            {"Cookie": "a=b"},
            "for one user, `private` too (told apart by cookie:a); nothing with Set-Cookie",
        ),
    ],
)
def test_credentials_and_users_are_told(tmp_path: Path, cache: str, headers: dict[str, str], stores: str) -> None:
    assert dict(cache_section(tmp_path, cache, **headers))["stores"].startswith(stores)


@pytest.mark.parametrize(
    ("invalidate", "told"),
    [
        ("['a:{id}', 'b:*']", ["what is stored for this URL", "a:1, b"]),
        ("'*'", ["what is stored for this URL", "everything"]),
        ("{tags: [a], mode: shadow}", ["what is stored for this URL", "a (only reported)"]),
        ("off", ["what is stored for this URL"]),
    ],
)
def test_change_says_what_it_makes_outdated(tmp_path: Path, invalidate: str, told: list[str]) -> None:
    text = FILE.format(cache="{}", invalidate=invalidate)
    lines = list(explain(load_text(tmp_path, text), "PUT", "/x/1", []))

    assert [line.partition("outdated")[2].strip() for line in lines if "makes outdated" in line] == told


def test_without_any_cache_there_is_nothing_to_say(tmp_path: Path) -> None:
    text = "upstreams: {api: {url: 'http://a'}}\nroutes:\n  - {name: r, match: '* /x'}\n"

    assert "Cache" not in list(explain(load_text(tmp_path, text), "PUT", "/x", []))
