"""The resilience policies in the file: short forms, presets, shared entries, merging, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from proxy.config.effective import effective
from proxy.config.model import RouteConfig
from proxy.config.policies import FallbackConfig, NamedBreaker, NamedBulkhead, RateLimitConfig, RedisConfig, RetryConfig
from proxy.config.policy_types import ClientKey, Rate, StoreUrl, parse_ratio
from proxy.explain import explain
from proxy.route_table import route_table
from tests.support.policies import ROUTES, UPSTREAMS, load_text, problems_of, with_route, with_server

SHARED = """\
breakers: {ml: {consecutive_failures: 3, break_duration: 10s}}
bulkheads: {db: database, small: {max_concurrent: 2, max_queued: 0}}
"""


def route_of(folder: Path, settings: str, before: str = "") -> RouteConfig:
    """The route `r` of a file that has `before` at its top."""
    return load_text(folder, before + with_route(settings)).config.routes[0]


# --- short forms and presets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "key", "expected"),
    [
        ("retry: none", "retry", None),
        ("retry: standard", "retry", RetryConfig()),
        ("retry: fast", "retry", RetryConfig(max_attempts=4, base_delay=0.1, max_delay=1.0)),
        ("retry: aggressive", "retry", RetryConfig(max_attempts=11, base_delay=0.2, max_delay=30.0)),
        ("retry: {retry_on: [500, reset]}", "retry", RetryConfig(retry_on=(500, "reset"))),
        ("retry: {mode: off}", "retry", None),
        ("breaker: {}", "breaker", NamedBreaker(name="r")),
        ("breaker: ml", "breaker", NamedBreaker(name="ml", consecutive_failures=3, break_duration=10.0)),
        ("breaker: off", "breaker", None),
        ("bulkhead: slow", "bulkhead", NamedBulkhead(name="r", max_concurrent=5, max_queued=200)),
        ("bulkhead: db", "bulkhead", NamedBulkhead(name="db", max_concurrent=15, max_queued=300)),
        (
            "bulkhead: {max_concurrent: 3, queue_timeout: 2s}",
            "bulkhead",
            NamedBulkhead(name="r", max_concurrent=3, queue_timeout=2.0, min_concurrent=3),
        ),
        ("rate_limit: 20/min", "rate_limit", (RateLimitConfig(rate=Rate(20, 60.0)),)),
        ("rate_limit: [5/s, {rate: 9/2h, mode: off}]", "rate_limit", (RateLimitConfig(rate=Rate(5, 1.0)),)),
        (
            "rate_limit: {rate: 100/10s, burst: 5, key: ['header:X-User', 'param:id']}",
            "rate_limit",
            (
                RateLimitConfig(
                    rate=Rate(100, 10.0), burst=5, key=(ClientKey("header", "X-User"), ClientKey("param", "id"))
                ),
            ),
        ),
        ("rate_limit: off", "rate_limit", ()),
        ("criticality: critical", "criticality", "critical"),
    ],
)
def test_a_policy_becomes(tmp_path: Path, setting: str, key: str, expected: object) -> None:
    assert getattr(route_of(tmp_path, setting, SHARED), key) == expected


def test_every_preset_of_a_bulkhead_is_that_of_the_seeds(tmp_path: Path) -> None:
    presets = {"fast": (20, 50), "normal": (10, 100), "slow": (5, 200), "external_api": (8, 150)}
    presets |= {"database": (15, 300), "ml_operations": (2, 50)}

    for name, numbers in presets.items():
        bulkhead = route_of(tmp_path, f"bulkhead: {name}").bulkhead
        assert bulkhead is not None
        assert (bulkhead.max_concurrent, bulkhead.max_queued) == numbers


def test_steps_of_a_fallback(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text("{}")
    setting = (
        "fallback: [{static: {status: 203, headers: {X-A: b}, body: {prediction: null, parts: [1, a]}}}, "
        "{file: demo.json}, {file: {path: demo.json, content_type: text/plain}}, {upstream: api}, {null_fields: price}]"
    )
    fallback = route_of(tmp_path, setting).fallback

    assert fallback is not None
    static, short, long, other, null = fallback.steps
    assert static.static is not None
    assert static.static.body == {"prediction": None, "parts": (1, "a")}
    assert (static.static.status, static.static.headers) == (203, {"X-A": "b"})
    assert short.file is not None
    assert short.file.path == str(tmp_path / "demo.json")
    assert long.file is not None
    assert long.file.content_type == "text/plain"
    assert other.upstream == "api"
    assert null.null_fields == ("price",)


def test_the_profile_decides_where_a_breaker_starts(tmp_path: Path) -> None:
    def numbers(profile: str) -> tuple[int | None, float]:
        breaker = route_of(tmp_path, "breaker: {}", profile).breaker
        assert breaker is not None
        return breaker.consecutive_failures, breaker.break_duration

    assert numbers("") == (5, 60.0)
    assert numbers("profile: development\n") == (10, 120.0)
    assert numbers("profile: production\n") == (3, 30.0)


# --- merging --------------------------------------------------------------------------------------------------------


def merged(folder: Path, default: str, own: str) -> RouteConfig:
    text = f"defaults: {{{default}}}\n{SHARED}"
    return route_of(folder, own, text)


def test_long_forms_merge_key_by_key(tmp_path: Path) -> None:
    retry = merged(tmp_path, "retry: {methods: [GET, PUT]}", "retry: fast").retry

    assert retry == RetryConfig(max_attempts=4, base_delay=0.1, max_delay=1.0, methods=("GET", "PUT"))


def test_none_on_the_route_ends_what_the_defaults_say(tmp_path: Path) -> None:
    assert merged(tmp_path, "retry: fast", "retry: none").retry is None
    assert merged(tmp_path, "breaker: ml", "breaker: none").breaker is None
    assert merged(tmp_path, "rate_limit: 5/s", "rate_limit: off").rate_limit == ()
    assert merged(tmp_path, "fallback: [{null_fields: a}]", "fallback: off").fallback is None


def test_a_list_on_the_route_replaces_that_of_the_defaults(tmp_path: Path) -> None:
    limits = merged(tmp_path, "rate_limit: [5/s, 6/s]", "rate_limit: 7/s").rate_limit

    assert [str(limit.rate) for limit in limits] == ["7/s"]


@pytest.mark.parametrize(
    ("default", "own", "expected"),
    [
        ("breaker: ml", "breaker: {mode: shadow}", ("ml", 3, "shadow")),
        ("breaker: ml", "breaker: {consecutive_failures: 7}", ("r", 7, "enforce")),
        ("breaker: {consecutive_failures: 7}", "breaker: ml", ("ml", 3, "enforce")),
        ("breaker: {consecutive_failures: 7}", "breaker: {slow_call: 1s}", ("r", 7, "enforce")),
        ("breaker: {mode: shadow}", "breaker: ml", ("ml", 3, "shadow")),
        ("breaker: {mode: shadow}", "breaker: {use: ml, mode: enforce}", ("ml", 3, "enforce")),
        ("retry: none", "breaker: {use: ml, mode: shadow}", ("ml", 3, "shadow")),
    ],
)
def test_own_numbers_and_a_shared_entry_do_not_mix(
    tmp_path: Path, default: str, own: str, expected: tuple[str, int, str]
) -> None:
    breaker = merged(tmp_path, default, own).breaker

    assert breaker is not None
    assert (breaker.name, breaker.consecutive_failures, breaker.mode) == expected


def test_timeouts_that_are_off_have_no_limit(tmp_path: Path) -> None:
    timeout = route_of(tmp_path, "timeout: {total: 5s, mode: off}").timeout

    assert (timeout.total, timeout.attempt, timeout.first_byte, timeout.idle) == (None, None, None, None)


# --- origins and how it is shown ------------------------------------------------------------------------------------


def test_every_value_has_an_origin(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, SHARED + with_route("retry: fast, breaker: ml, bulkhead: {max_queued: 1}"))
    origins = {key[2]: value for key, value in loaded.origins.items() if key[:2] == ("routes", "r")}

    assert origins["retry.max_attempts"] == "preset fast, route, line 6"
    assert origins["retry.methods"] == "built in"
    assert origins["breaker.consecutive_failures"] == "breakers.ml, line 1"
    assert origins["bulkhead.max_queued"] == "route, line 6"


def test_explain_shows_the_policies_in_the_order_of_the_pipeline(tmp_path: Path) -> None:
    setting = (
        "bulkhead: {enforce_percent: 10%}, breaker: ml, retry: fast, criticality: critical, "
        "fallback: [{static: {body: {a: null}}}], rate_limit: {rate: 5/s, mode: shadow}"
    )
    loaded = load_text(tmp_path, SHARED + with_route(setting))

    lines = list(explain(loaded, "GET", "/x/1", []))
    names = [line.split()[0] for line in lines[lines.index("Policies, outermost first") + 1 :] if line]

    assert list(dict.fromkeys(name.partition(".")[0] for name in names[: names.index("Upstream")])) == [
        "rate_limit",
        "fallback",
        "timeout",
        "retry",
        "breaker",
        "bulkhead",
        "criticality",
    ]
    assert any("static status 200, body a null" in line for line in lines)
    assert any("mode shadow, rate 5/s" in line for line in lines)


def test_the_table_of_routes_says_which_policies_are_not_in_force_for_everybody(tmp_path: Path) -> None:
    setting = "retry: {mode: shadow}, rate_limit: {rate: 5/s, enforce_percent: 10%}, timeout: {mode: shadow}"

    _, row = route_table(load_text(tmp_path, with_route(setting)).config)

    assert "rate_limit 5/s (10%), retry (shadow)" in row
    assert "idle 1m (shadow)" in row


def test_effective_values_keep_what_an_answer_says(tmp_path: Path) -> None:
    config = load_text(tmp_path, with_route("fallback: [{static: {body: {a: null}}}]")).config

    step = effective(config)["routes"][0]["fallback"]["steps"][0]
    assert step["static"]["body"] == {"a": None}


# --- Redis ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h", StoreUrl("single", (("h", 6379),))),
        ("redis://u:p%40ss@h:7000/2", StoreUrl("single", (("h", 7000),), username="u", password="p@ss", db=2)),
        ("rediss://:secret@[::1]:7000", StoreUrl("single", (("::1", 7000),), tls=True, password="secret")),
        ("unix:///run/redis.sock?db=1", StoreUrl("single", path="/run/redis.sock", db=1)),
        (
            "redis+sentinel://a:1,b/main/3",
            StoreUrl("sentinel", (("a", 1), ("b", 26379)), master="main", db=3),
        ),
        ("rediss+cluster://a,b:7001", StoreUrl("cluster", (("a", 6379), ("b", 7001)), tls=True)),
    ],
)
def test_addresses_of_redis(tmp_path: Path, text: str, expected: StoreUrl) -> None:
    redis = load_text(tmp_path, f"redis: '{text}'\n{UPSTREAMS}{ROUTES}").config.redis

    assert redis == RedisConfig(url=expected)


def test_redis_without_an_address_is_a_doubt(tmp_path: Path) -> None:
    (warning,) = load_text(tmp_path, f"redis: {{prefix: x}}\n{UPSTREAMS}{ROUTES}").warnings

    assert "without a `url` there is no Redis" in warning.message


@pytest.mark.parametrize("setting", ["redis: off", "redis: {url: '${NO:-}'}", "redis: ''", "redis: {timeout: 5ms}"])
def test_without_an_address_there_is_no_redis(tmp_path: Path, setting: str) -> None:
    assert load_text(tmp_path, f"{setting}\n{UPSTREAMS}{ROUTES}").config.redis is None


def test_a_password_never_prints_and_counts_for_the_digest(tmp_path: Path) -> None:
    def load(password: str) -> Any:
        return load_text(tmp_path, f"redis: {{url: 'redis://u:{password}@h'}}\n{UPSTREAMS}{ROUTES}").config

    config = load("hunter2")

    assert effective(config)["redis"]["url"] == "redis://u:***@h:6379"
    assert "hunter2" not in repr(config) + str(config.redis.url)
    assert config.digest != load("hunter3").digest


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("retry: slow", '"slow" is no retry: write {max_attempts: 3} and the like, or a preset: fast, standard'),
        ("retry: {retry_on: [429]}", "429 is about one client"),
        ("retry: {retry_on: [404]}", "404 is nothing to retry on: write connect, reset, timeout, 408, 425 or 500"),
        ("retry: {retry_on: [true]}", "true is nothing to retry on"),
        ("retry: {methods: [get]}", '"get" is not a method, such as POST'),
        ("retry: {base_delay: 20s}", "`base_delay` is longer than `max_delay` (10s)"),
        ("breaker: db", '"db" is not an entry of `breakers`: there are ml'),
        ("bulkhead: huge", '"huge" is not an entry of `bulkheads`: there are db, small; the presets are fast, normal'),
        ("breaker: {use: ml, slow_call: 1s}", "`use` takes the numbers of the shared one: remove slow_call"),
        ("breaker: {break_duration: 1h}", "`max_break_duration` is shorter than `break_duration`"),
        (
            "breaker: {consecutive_failures: off, failure_ratio: off}",
            "a breaker without consecutive_failures, failure_ratio and slow_call never opens",
        ),
        ("breaker: {failure_ratio: 1}", "1 is not a ratio: write a percentage such as 50%, or a fraction below 1"),
        ("breaker: {failure_ratio: 101%}", '"101%" is out of range: more than 0% and at most 100%'),
        ("breaker: {failure_ratio: 0%}", '"0%" is out of range'),
        ("breaker: {mode: of}", '"of" is not allowed: write enforce, shadow or off'),
        ("bulkhead: {max_queued: -1}", "-1 is too small: at least 0"),
        (
            "bulkhead: {adaptive: true, max_concurrent: 5, min_concurrent: 6}",
            "`min_concurrent` is larger than `max_concurrent`",
        ),
        ("rate_limit: 20", "20 is not a rate: write a number and a time, such as 20/min"),
        ("rate_limit: 0/s", '"0/s" is not a rate'),
        ("rate_limit: 5/0s", '"5/0s" is not a rate: the time must be more than 0'),
        ("rate_limit: 5/fortnight", '"5/fortnight" is not a rate: the time is s, min, hour, day or such as 10s'),
        ("rate_limit: []", "must not be empty"),
        ("rate_limit: {rate: 5/s, key: ip}", '"ip" tells no clients apart: write client_ip, api_key, header:NAME'),
        ("retry: 3", "3 is no retry: write a preset, or {max_attempts: 3} and the like"),
        ("breaker: true", "true is neither a name nor a mapping: {} stands for the defaults"),
        ("bulkhead: 5", "5 is neither a name nor a mapping"),
        ("fallback: {static: {}}", "the steps of a fallback are a list: write [{static: …}]"),
        ("retry: {max_retries: 3}", 'unknown key "max_retries" in retry of route "r": did you mean "max_attempts"?'),
        ("breaker: {failure_threshold: 3}", 'did you mean "consecutive_failures"?'),
        ("circuit_breaker: {}", 'did you mean "breaker"?'),
        ("rate_limit: {rate: 5/s, key: [ip]}", '"ip" tells no clients apart: write client_ip, api_key, header:NAME'),
        ("rate_limit: {rate: 5/s, cost: 6}", "`cost` 6 is more than the burst of 5: no request could ever pass"),
        ("rate_limit: {rate: 1/365d, burst: 1000}", "a burst of 1000 at 1/365d is never there again"),
        ("rate_limit: {rate: 5/s, key: ['param:name']}", "GET /x/{id} has no parameter {name} for the key param:name"),
        ("fallback: [stale]", '`stale` is what the cache holds, and route "r" has none: write `cache: {}`'),
        ("fallback: []", "must not be empty"),
        (
            "fallback: [{}]",
            "a step of a fallback has exactly one of static, file, upstream, null_fields, stale, last_known_good",
        ),
        ("fallback: [{upstream: b}]", '"b" is not the name of an upstream: there are api'),
        ("fallback: [{file: nowhere.json}]", "No such file or directory"),
        ("criticality: high", '"high" is not allowed: write critical, default, sheddable or background'),
        ("timeout: {enforce_percent: 50}", "50 is not a ratio"),
    ],
)
def test_a_mistake_says_what_is_allowed(tmp_path: Path, setting: str, expected: str) -> None:
    (problem,) = problems_of(tmp_path, SHARED + with_route(setting))

    assert expected in problem


def test_a_mistake_in_the_defaults_is_found_where_it_matters(tmp_path: Path) -> None:
    text = f"defaults: {{retry: {{max_delay: 1s}}}}\n{with_route('retry: {base_delay: 2s}')}"

    assert problems_of(tmp_path, text) == [
        "5:44: `base_delay` is longer than `max_delay` (1s): the longest delay comes last"
    ]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("bulkheads: {fast: {max_concurrent: 1}}", '"fast" is the name of a preset, which is not shared'),
        ("bulkheads: {a: quick}", '"quick" is no bulkhead: write {max_concurrent: 10} and the like, or a preset: fast'),
        ("breakers: {a: {max_break_duration: 1s}}", "`max_break_duration` is shorter than `break_duration`"),
        ("breakers: {r: {}}", 'route "r" has a breaker of its own, and `breakers` an entry of that name'),
        ("redis: http://h", "this is not the URL of a Redis server: write redis://host:6379/0"),
        ("redis: redis://a,b", "several servers are redis+sentinel://… or redis+cluster://…"),
        ("redis: redis://a/x", "this is not the URL of a Redis server"),
        ("redis: redis://a:0", "this is not the URL of a Redis server"),
        ("redis: redis+cluster://a/1", "this is not the URL of a Redis server"),
        ("redis: redis+sentinel://a", "the sentinels need the name of the server they watch"),
    ],
)
def test_a_mistake_in_a_section_says_what_is_allowed(tmp_path: Path, section: str, expected: str) -> None:
    (problem,) = problems_of(tmp_path, f"{section}\n{with_route('breaker: {}')}")

    assert expected in problem


def test_the_password_in_a_bad_address_is_not_shown(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, f"redis: 'redis://u:hunter2@h:99999'\n{UPSTREAMS}{ROUTES}")

    assert "hunter2" not in problem


def test_what_cannot_be_divided_among_the_workers_is_refused(tmp_path: Path) -> None:
    server = "server: {workers: 4}\n"

    (problem,) = problems_of(tmp_path, server + with_route("bulkhead: ml_operations"))
    assert "max_concurrent 2 cannot be divided among 4 workers: raise it, or have fewer `server.workers`" in problem
    assert problems_of(tmp_path, server + with_route("bulkhead: {max_concurrent: 4}")) == []


def test_a_file_that_is_too_large_for_a_fallback_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(b"x" * (2**20 + 1))

    (problem,) = problems_of(tmp_path, with_route("fallback: [{file: large.bin}]"))

    assert "is larger than 1MiB, the limit for a fallback" in problem


def test_an_entry_that_nobody_uses_is_a_doubt(tmp_path: Path) -> None:
    warnings = load_text(tmp_path, SHARED + with_route("bulkhead: db")).warnings

    assert [warning.message for warning in warnings] == [
        'warning: no route uses the breaker "ml"',
        'warning: no route uses the bulkhead "small"',
    ]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "retry: standard, breaker: {consecutive_failures: 6}",
            "the 6 attempts of one request can be the 6 failures in a row that open the breaker",
        ),
        ("retry: {mode: shadow, enforce_percent: 5%}", "`enforce_percent` says nothing in `mode: shadow`"),
        ("fallback: [{null_fields: a}, {null_fields: b}]", "what follows a step that always has an answer is never"),
        ("fallback: [{upstream: api}]", '"api" is the upstream that has failed: `retry` asks it again'),
    ],
)
def test_what_is_rarely_meant_is_a_doubt(tmp_path: Path, setting: str, expected: str) -> None:
    (warning,) = load_text(tmp_path, with_route(setting)).warnings

    assert expected in warning.message


def test_fewer_attempts_than_failures_are_no_doubt(tmp_path: Path) -> None:
    assert load_text(tmp_path, with_route("retry: fast, breaker: {}")).warnings == []


def test_a_shared_pool_of_few_permits_lowers_the_least_of_its_own(tmp_path: Path) -> None:
    text = "bulkheads: {w: {max_concurrent: 3, adaptive: true}}\n" + with_route("bulkhead: w")
    bulkhead = load_text(tmp_path, text).config.routes[0].bulkhead

    assert bulkhead is not None
    assert bulkhead.min_concurrent == 3


def test_a_mistake_in_a_shared_entry_is_told_once(tmp_path: Path) -> None:
    text = "breakers: {b: {max_break_duration: 1s}}\n" + with_route("breaker: b")

    assert len(problems_of(tmp_path, text)) == 1


def test_an_upstream_that_only_a_fallback_uses_is_used(tmp_path: Path) -> None:
    text = (
        "upstreams: {a: {url: http://a}, b: {url: http://b}}\n"
        "routes: [{name: r, match: GET /, upstream: a, fallback: [{upstream: b}]}]\n"
    )

    assert load_text(tmp_path, text).warnings == []


# --- scalars --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["5/s", "20/min", "1000/hour", "7/day", "100/10s", "3/1h30m"])
def test_rates_print_as_they_are_read(text: str) -> None:
    assert str(Rate.parse(text)) == text


@pytest.mark.parametrize(("text", "ratio"), [("50%", 0.5), ("0.5%", 0.005), ("100%", 1.0), (0.25, 0.25)])
def test_ratios(text: object, ratio: float) -> None:
    assert parse_ratio(text) == ratio


@pytest.mark.parametrize("text", [1, 50, 0, 1.0, True, "0.5", "50", "", None, "5 %", "-1%"])
def test_no_ratios(text: object) -> None:
    with pytest.raises(ValueError, match=r"ratio|range"):
        parse_ratio(text)


def test_a_ratio_from_the_environment(tmp_path: Path) -> None:
    text = with_route("breaker: {failure_ratio: '${A}', slow_call_ratio: '${B}'}")
    breaker = load_text(tmp_path, text, {"A": "0.25", "B": "75%"}).config.routes[0].breaker

    assert breaker is not None
    assert (breaker.failure_ratio, breaker.slow_call_ratio) == (0.25, 0.75)


def test_a_fallback_is_what_it_says(tmp_path: Path) -> None:
    fallback = route_of(tmp_path, "fallback: {steps: [{null_fields: a}], methods: [GET], mode: shadow}").fallback

    assert isinstance(fallback, FallbackConfig)
    assert (fallback.methods, fallback.mode) == (("GET",), "shadow")


def test_workers_are_a_number(tmp_path: Path) -> None:
    assert load_text(tmp_path, with_server("{workers: 3}")).config.server.workers == 3
