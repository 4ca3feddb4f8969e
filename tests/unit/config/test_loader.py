"""policies.yaml as a whole: every mistake with its place, all at once."""

import time
from pathlib import Path

import pytest

from proxy.config.checks import UNMATCHED as UNMATCHED_IN_FILE
from proxy.config.problems import ConfigError
from proxy.policies_file import load
from proxy.telemetry.metrics import UNMATCHED as UNMATCHED_IN_METRICS
from tests.support.policies import ROUTES, UPSTREAMS, load_text, problems_of, with_route, with_server, with_upstream


def test_the_smallest_file_loads(tmp_path: Path) -> None:
    config = load_text(tmp_path, UPSTREAMS + ROUTES).config

    assert [route.name for route in config.routes] == ["all"]
    assert config.routes[0].upstream == "api"
    assert str(config.upstreams["api"].endpoints[0]) == "http://127.0.0.1:3000"


def test_five_mistakes_are_five_errors_each_with_its_place(tmp_path: Path) -> None:
    text = """\
server:
  drain: 15
upstreams:
  api:
    url: ftp://127.0.0.1
routes:
  - name: search
    match: GET /search
    retires: 3
  - name: list
    match: get /properties
  - name: search
    match: GET /other
    timeout: 1:30
"""

    assert problems_of(tmp_path, text) == [
        "2:10: server.drain: 15 is not a duration: write a number and a unit, such as 250ms, 5s, 1m30s, 2h or 1d",
        '5:10: url in upstream "api": the scheme of "ftp://127.0.0.1" is not supported: '
        "write http://host:port, https://host:port or unix:/path/to.sock",
        '9:5: unknown key "retires" in route "search": did you mean "retry"?',
        '11:12: match in route "list": the method must be `*` or one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, '
        "in capitals",
        '12:11: route "search" is there twice: the first is in line 7',
        "14:14: 1:30 is a number in base 60 to YAML: write 90s for a duration, or quote it to mean the text",
    ]


def test_a_problem_prints_as_file_line_column_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as failure:
        load_text(tmp_path, "nope: 1\n" + UPSTREAMS + ROUTES)

    assert str(failure.value).startswith(f'{tmp_path / "policies.yaml"}:1:1: unknown key "nope": allowed are ')


# --- the file itself ------------------------------------------------------------------------------------------------


def test_a_missing_file_is_one_problem_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yaml: there is no such file: give the path"):
        load(tmp_path / "nope.yaml", {})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


def test_h04_a_file_of_10_mb_is_refused_unread(tmp_path: Path) -> None:
    started = time.process_time()
    found = problems_of(tmp_path, b"# comment\n" * 1_000_000)

    assert found == ["is larger than 1MiB, the limit for a policies file"]
    assert time.process_time() - started < 0.5


def test_h04_text_that_is_not_utf8_is_refused_with_its_place(tmp_path: Path) -> None:
    assert problems_of(tmp_path, b"a: 1\nb: caf\xe9\n") == ["2:7: is not UTF-8: save the file as UTF-8 text"]


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    assert problems_of(tmp_path, b"\xef\xbb\xbf" + (UPSTREAMS + ROUTES).encode()) == []


def test_h04_many_mistakes_are_cut_and_quick(tmp_path: Path) -> None:
    text = UPSTREAMS + ROUTES + "".join(f"key{number}: 1\n" for number in range(4000))

    started = time.process_time()
    found = problems_of(tmp_path, text)

    assert time.process_time() - started < 1
    assert len(found) <= 101
    assert found[0].startswith('5:1: unknown key "key0"')


def test_h04_many_problems_of_the_text_are_cut(tmp_path: Path) -> None:
    found = problems_of(tmp_path, UPSTREAMS + ROUTES + "defaults: [" + "012, " * 150 + "]")

    assert len(found) == 101
    assert found[-1].endswith("more problems are not shown")


@pytest.mark.parametrize("text", ["", "# nothing\n", "upstreams:\nroutes:\n"])
def test_an_empty_file_misses_upstreams_and_routes(tmp_path: Path, text: str) -> None:
    assert problems_of(tmp_path, text) == ['1:1: "upstreams" is missing', '1:1: "routes" is missing']


# --- unknown keys, wrong types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_server("{drian: 5s}"), '1:10: unknown key "drian" in server: did you mean "drain"?'),
        (
            with_server("{limits: {max_haed: 1}}"),
            '1:19: unknown key "max_haed" in server.limits: did you mean "max_head"?',
        ),
        (with_server("{admin: {tokn: x}}"), '1:18: unknown key "tokn" in server.admin: did you mean "token"?'),
        (
            with_upstream("{url: 'http://a', health: {intervall: 5s}}"),
            '2:35: unknown key "intervall" in health of upstream "api": did you mean "interval"?',
        ),
        (
            with_upstream("{uri: 'http://a'}"),
            '2:9: unknown key "uri" in upstream "api": did you mean "url"?',
        ),
        (
            with_route("headers: {request: {sets: {}}}"),
            '4:57: unknown key "sets" in headers.request of route "r": did you mean "set"?',
        ),
        (with_route("qqq: 1"), '4:37: unknown key "qqq" in route "r": allowed are '),
        (with_server("{drain: 5}"), "1:17: server.drain: 5 is not a duration"),
        (
            with_server("{limits: {max_connections: '5'}}"),
            '1:36: server.limits.max_connections: "5" is not allowed: write a whole number',
        ),
        (
            with_server("{limits: {max_connections: 0}}"),
            "1:36: server.limits.max_connections: 0 is too small: at least 1",
        ),
        (with_server("{limits: {max_connections: 1000001}}"), "is too large: at most 1000000"),
        (with_server("{limits: {max_connections: 1.5}}"), "1:36: server.limits.max_connections: 1.5"),
        (with_server("{limits: 5}"), "1:18: server.limits: 5 is not allowed: write keys and values"),
        (with_server("{ready_needs_upstream: 1}"), "1:32: server.ready_needs_upstream: 1"),
        (with_server("{hosts: a}"), '1:17: server.hosts: "a" is not allowed: write a list'),
        (with_server("{access_log: no}"), ""),
        (with_server("{access_log: yes}"), "1:22: server.access_log: yes is read as true: quote it to mean the text"),
        (with_server("{workers: 0}"), "1:19: server.workers: 0 is too small: at least 1"),
        (with_server("{workers: 65}"), "1:19: server.workers: 65 is too large: at most 64"),
        (
            f"{UPSTREAMS}routes:\n  - {{name: no, match: GET /}}\n",
            "4:12: name in route number 1: no is read as false: quote it to mean the text",
        ),
        (
            f"{UPSTREAMS}routes:\n  - {{name: 123, match: GET /}}\n",
            "4:12: name in route number 1: 123 is read as a number: quote it",
        ),
        (f"{UPSTREAMS}routes:\n  - {{match: GET /}}\n", '4:5: "name" is missing in route number 1'),
        (f"{UPSTREAMS}routes:\n  - {{name: a}}\n", '4:5: "match" is missing in route "a"'),
        (f"{UPSTREAMS}routes:\n  - {{name: a, match: []}}\n", '4:22: match in route "a": must not be empty'),
        (f"{UPSTREAMS}routes:\n  - {{name: a, match: [5]}}\n", '4:23: match in route "a": 5 is read as a number'),
        (
            f"{UPSTREAMS}routes:\n  - {{name: a, match: {{b: c}}}}\n",
            '4:22: match in route "a": a mapping is not allowed: write a list',
        ),
        (f"{UPSTREAMS}routes:\n  - GET /\n", '4:5: route number 1: "GET /" is not allowed: write keys and values'),
        (f"{UPSTREAMS}routes: GET /\n", '3:9: routes: "GET /" is not allowed: write a list'),
        (f"upstreams: [a]\n{ROUTES}", "1:12: upstreams: a list is not allowed: write keys and values"),
        (f"upstreams: {{a b: {{url: 'http://a'}}}}\n{ROUTES}", '1:13: upstream "a b"'),
        (f"upstreams: {{}}\n{ROUTES}", "1:12: `upstreams` is empty: name at least one service"),
        (f"{UPSTREAMS}routes: []\n", "3:9: `routes` is empty: write at least one"),
        (
            with_route("timeout: serch"),
            '4:46: timeout in route "r": "serch" is no timeout: write a duration such as 10s, or a preset: health,',
        ),
        (with_route("timeout: 5"), '4:46: timeout in route "r": 5 is not a duration'),
        (with_route("timeout: {total: 5}"), '4:54: timeout.total in route "r": 5 is not a duration'),
        (
            with_route("headers: {request: {set: {Host: a}}}"),
            '4:63: headers.request.set.Host in route "r": Host is not edited here: write `host:`',
        ),
        (
            with_route("headers: {request: {set: {X-A: 5}}}"),
            '4:68: headers.request.set.X-A in route "r": a header value must be text',
        ),
        (
            with_route("headers: {response: {remove: [Via, via]}}"),
            'headers.response in route "r": the header via is named twice',
        ),
        (with_route("headers: {response: {remove: [5]}}"), "5 is read as a number"),
        (
            f"profile: prod\n{UPSTREAMS}{ROUTES}",
            '1:10: profile: "prod" is not allowed: write development or production',
        ),
    ],
)
def test_a_mistake_names_its_place_and_what_is_allowed(tmp_path: Path, text: str, expected: str) -> None:
    found = problems_of(tmp_path, text)

    if expected:
        assert len(found) == 1
        assert expected in found[0]
    else:
        assert found == []


def test_every_section_suggests_from_its_own_keys(tmp_path: Path) -> None:
    text = """\
server:
  admin: {zzz: 1}
  limits: {zzz: 1}
upstreams:
  endpoints:
    url: http://a
    tls: {zzz: 1}
    ejection: {zzz: 1}
    health: {zzz: 1}
defaults: {zzz: 1}
routes:
  - {name: timeout, match: GET /, timeout: {zzz: 1}, headers: {zzz: 1, request: {zzz: 1}}}
"""
    allowed = [problem.partition("allowed are ")[2].partition(",")[0] for problem in problems_of(tmp_path, text)]

    assert allowed == [
        "listen",
        "max_connections",
        "ca",
        "consecutive_failures",
        "path",
        "upstream",
        "total",
        "request",
        "set",
    ]


# --- keys of later versions -----------------------------------------------------------------------------------------


LATER = ["allow", "signature", "security_headers", "cors", "api_key", "token", "validate"]


@pytest.mark.parametrize("key", LATER)
def test_a_policy_of_a_later_version_is_refused_and_never_ignored(tmp_path: Path, key: str) -> None:
    on_route = problems_of(tmp_path, with_route(f"{key}: {{}}"))
    in_defaults = problems_of(tmp_path, f"defaults:\n  {key}: standard\n{UPSTREAMS}{ROUTES}")

    assert on_route == [f'4:{37 + len(key) + 2}: {key} in route "r": `{key}` is not available in this version']
    assert in_defaults == [f"2:{5 + len(key)}: {key} in defaults: `{key}` is not available in this version"]


@pytest.mark.parametrize("key", LATER)
@pytest.mark.parametrize("value", ["off", "none", "false", "'off'", "${X}"])
def test_a_policy_of_a_later_version_may_be_off(tmp_path: Path, key: str, value: str) -> None:
    text = f"defaults:\n  {key}: {value}\n{UPSTREAMS}routes:\n  - name: r\n    match: GET /\n    {key}: {value}\n"

    assert problems_of(tmp_path, text, {"X": "off"}) == []


def test_a_header_may_be_called_mode(tmp_path: Path) -> None:
    assert problems_of(tmp_path, with_route("headers: {request: {set: {mode: x}}}")) == []


# --- the environment ------------------------------------------------------------------------------------------------


def test_variables_are_coerced_by_their_field(tmp_path: Path) -> None:
    text = """\
server:
  listen: 127.0.0.1:${PORT}
  slow_request: ${OFF}
  ready_needs_upstream: "${YES}"
  limits: {max_connections: "${COUNT}", max_head: "${COUNT}", max_body: "${OFF}"}
  admin: {token: "${NONE:-}"}
"""
    env = {"PORT": "9000", "OFF": "off", "YES": "true", "COUNT": "64"}
    server = load_text(tmp_path, text + UPSTREAMS + ROUTES, env).config.server

    assert server.listen.port == 9000
    assert server.slow_request is None
    assert server.ready_needs_upstream is True
    assert (server.limits.max_connections, server.limits.max_head, server.limits.max_body) == (64, 64, None)
    assert server.admin is not None
    assert server.admin.token is None


@pytest.mark.parametrize("count", ["x", "", "-1", "1.5", "\uff19", "9" * 30, "0x10"])
def test_a_variable_that_does_not_fit_is_refused_and_not_shown(tmp_path: Path, count: str) -> None:
    (problem,) = problems_of(tmp_path, with_server('{limits: {max_connections: "${COUNT}"}}'), {"COUNT": count})

    assert problem.startswith("1:36: server.limits.max_connections: the value from the environment ")


def test_a_secret_in_the_wrong_place_is_not_shown(tmp_path: Path) -> None:
    env = {"S": "hunter2"}
    text = "profile: ${S}\nserver: {listen: '${S}', drain: '${S}', hosts: ['${S} x'], limits: {max_head: '${S}'}}\n"
    text += "upstreams:\n  api: {url: 'http://u:${S}@a'}\n  ${S}: 1\nroutes:\n  - {name: '${S} ', match: '${S} '}\n"

    found = problems_of(tmp_path, text, env)

    assert len(found) >= 6
    assert not any("hunter2" in problem for problem in found), found


def test_an_unknown_variable_is_reported_once(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, with_upstream('{url: "${API_URL}"}'))

    assert problem.startswith("2:14: the environment has no variable API_URL: set it, or write ${API_URL:-default}")


# --- contradictions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_server("{listen: ':9901'}"), "1:9: 127.0.0.1:9901 is already taken by server.listen (:9901)"),
        (
            with_server("{listen: '127.0.0.1:80', admin: '127.0.0.1:80'}"),
            "1:41: 127.0.0.1:80 is already taken by server.listen",
        ),
        (
            with_server("{listen: ':80', health: '127.0.0.1:80'}"),
            "1:33: 127.0.0.1:80 is already taken by server.listen (:80)",
        ),
        (with_server("{health: '127.0.0.1:9901'}"), "is already taken by server.admin"),
        (
            with_server("{admin: '0.0.0.0:9901'}"),
            "1:17: 0.0.0.0:9901 is a public bind of the admin listener: give it a `token` or an `allow` list",
        ),
        (with_server("{admin: {listen: ':9901', allow: [0.0.0.0/0]}}"), "is a public bind"),
        (with_server("{admin: {listen: ':9901', token: '${EMPTY}'}}"), "is a public bind"),
        (
            with_upstream("{url: 'http://127.0.0.1:8080'}"),
            "2:14: http://127.0.0.1:8080 is Tidegate itself (server.listen)",
        ),
        (
            with_upstream("{endpoints: ['http://a', 'http://localhost:9901']}"),
            "2:33: http://localhost:9901 is Tidegate itself (server.admin)",
        ),
        (with_upstream("{}"), '2:8: upstream "api": an upstream has either `url` or `endpoints`'),
        (with_upstream("{url: 'http://a', endpoints: ['http://b']}"), "either `url` or `endpoints`"),
        (with_upstream("{endpoints: []}"), '2:20: endpoints in upstream "api": must not be empty'),
        (with_upstream("{url: 'http://a', tls: {server_name: a}}"), "2:31: `tls` is for https endpoints only"),
        (with_upstream("{url: 'https://a', tls: {cert: a.pem}}"), "2:32: `cert` and `key` come together"),
        (with_upstream("{url: 'https://a', tls: {ca: nope.pem}}"), "2:37: cannot read"),
        (
            with_upstream("{url: 'http://a', ejection: {duration: 10m}}"),
            "2:36: `max_duration` is shorter than `duration`",
        ),
        (with_route("upstream: nope"), '4:47: "nope" is not the name of an upstream: there are api'),
        (f"defaults: {{upstream: nope}}\n{UPSTREAMS}{ROUTES}", '1:22: "nope" is not the name of an upstream'),
        (
            f"upstreams:\n  a: {{url: 'http://a'}}\n  b: {{url: 'http://b'}}\n{ROUTES}",
            '5:5: route "all" needs an `upstream`: there are several, a, b',
        ),
        (
            with_route("rewrite: '/v2/{key}'"),
            '4:46: rewrite in route "r": uses `{key}`, which `GET /x/{id}` does not have',
        ),
        (f"defaults: {{rewrite: '/v2/{{id}}'}}\n{UPSTREAMS}{ROUTES}", '5:5: rewrite in route "all": uses `{id}`'),
        (
            f"{UPSTREAMS}routes:\n  - {{name: unmatched, match: GET /}}\n",
            '4:12: "unmatched" stands for requests without a route',
        ),
        (
            f"{UPSTREAMS}routes:\n  - {{name: a, match: GET /x}}\n  - {{name: b, match: [GET /y, GET /x]}}\n",
            '5:31: match in route "b": the same requests match `GET /x` of route `a`',
        ),
        (f"{UPSTREAMS}routes:\n  - {{name: a, match: 'GET /a b'}}\n", '4:22: match in route "a"'),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    found = problems_of(tmp_path, text, {"EMPTY": ""})

    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    "settings",
    [
        "{admin: off}",
        "{admin: {listen: ':9901', token: secret}}",
        "{admin: {listen: ':9901', allow: [10.0.0.0/8]}}",
        "{admin: 'unix:/run/t.sock', health: '0.0.0.0:9902'}",
        "{listen: '127.0.0.1:0', admin: '127.0.0.1:0', health: '127.0.0.1:0'}",
        "{listen: '10.0.0.1:80', admin: '127.0.0.1:80'}",
        "{listen: '10.0.0.9:3000'}",
        "{listen: 'unix:/run/t.sock'}",
    ],
)
def test_sound_listeners_pass(tmp_path: Path, settings: str) -> None:
    assert problems_of(tmp_path, with_server(settings)) == []


def test_contradictions_are_found_beside_other_mistakes(tmp_path: Path) -> None:
    text = """\
server: {admin: '0.0.0.0:8080', nope: 1}
upstreams:
  a: {url: 'http://127.0.0.1:8080'}
  b: {url: 5}
routes:
  - {name: r, match: GET /, upstream: b, timeout: x1}
  - {name: r, match: GET /x, upstream: c}
"""

    places = [problem.split(" ")[0] for problem in problems_of(tmp_path, text)]

    assert places == ["1:17:", "1:33:", "3:12:", "4:12:", "6:51:", "7:12:", "7:40:"]


def test_a_mistake_in_a_setting_causes_no_false_contradiction(tmp_path: Path) -> None:
    text = f"server: {{listen: 5, admin: {{listen: ':9901', token: 5}}}}\nupstreams: {{api: {{url: 'http://127.0.0.1:8080'}}}}\n{ROUTES}"

    assert [problem.split(" ")[0] for problem in problems_of(tmp_path, text)] == ["1:18:", "1:53:"]


def test_a_mistake_in_defaults_does_not_make_routes_miss_their_upstream(tmp_path: Path) -> None:
    text = f"defaults: {{upstream: 5}}\nupstreams: {{a: {{url: 'http://a'}}, b: {{url: 'http://b'}}}}\n{ROUTES}"

    assert len(problems_of(tmp_path, text)) == 1


def test_the_reserved_name_is_the_one_in_the_metrics() -> None:
    assert UNMATCHED_IN_FILE == UNMATCHED_IN_METRICS


def test_a_break_in_the_text_hides_no_mistake_before_it_and_invents_none(tmp_path: Path) -> None:
    text = f"serverr: 1\n{UPSTREAMS}routes:\n  - {{name: a, match: GET /, timeout: 5}}\n  - {{name: b\n"

    assert [problem.split(" ")[0] for problem in problems_of(tmp_path, text)] == ["1:1:", "5:38:", "7:1:"]


# --- warnings -------------------------------------------------------------------------------------------------------


def test_a_wide_trusted_network_is_a_warning(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, with_server("{trusted_proxies: [10.0.0.1, 192.168.0.0/24, 10.0.0.0/8]}"))

    (warning,) = map(str, loaded.warnings)
    assert ":1:54: warning: 10.0.0.0/8 is a wide network" in warning


def test_an_upstream_that_no_route_uses_is_a_warning(tmp_path: Path) -> None:
    loaded = load_text(
        tmp_path, f"upstreams:\n  a: {{url: 'http://a'}}\n  b: {{url: 'http://b'}}\ndefaults: {{upstream: a}}\n{ROUTES}"
    )

    (warning,) = map(str, loaded.warnings)
    assert ':3:6: warning: no route uses the upstream "b"' in warning
