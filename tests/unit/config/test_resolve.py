"""What is in force: short forms, presets, defaults, profiles, and where each value comes from."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from proxy.config.model import HeaderEdit, HeaderEdits, HealthCheck, ServerConfig
from proxy.config.policies import TimeoutConfig
from tests.support.certificates import Certificates
from tests.support.policies import ROUTES, UPSTREAMS, load_text, problems_of, with_server, with_upstream

# --- timeouts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("timeout: 10s", TimeoutConfig(total=10)),
        ("timeout: off", TimeoutConfig(total=None)),
        ("timeout: none", TimeoutConfig(total=None)),
        (
            "timeout: {total: 5s, attempt: 2s, first_byte: 1s, idle: off}",
            TimeoutConfig(total=5, attempt=2, first_byte=1, idle=None),
        ),
        ("timeout: health", TimeoutConfig(total=1)),
        ("timeout: auth", TimeoutConfig(total=5)),
        ("timeout: properties", TimeoutConfig(total=10)),
        ("timeout: search", TimeoutConfig(total=15)),
        ("timeout: ml_training", TimeoutConfig(total=60)),
        ("timeout: ${T}", TimeoutConfig(total=7)),
        ("rewrite: off", TimeoutConfig(total=30, attempt=None, first_byte=None, idle=60)),
    ],
)
def test_timeout_short_forms_and_presets(tmp_path: Path, setting: str, expected: TimeoutConfig) -> None:
    text = f"{UPSTREAMS}routes:\n  - name: r\n    match: GET /x\n    {setting}\n"

    assert load_text(tmp_path, text, {"T": "7s"}).config.routes[0].timeout == expected


def test_defaults_apply_key_by_key_where_the_route_says_nothing(tmp_path: Path) -> None:
    text = f"""\
{UPSTREAMS}
defaults:
  timeout: {{total: 20s, attempt: 5s}}
routes:
  - {{name: plain, match: GET /a}}
  - {{name: own, match: GET /b, timeout: {{total: 3s, idle: 9s}}}}
  - {{name: preset, match: GET /c, timeout: search}}
"""
    loaded = load_text(tmp_path, text)
    plain, own, preset = loaded.config.routes

    assert plain.timeout == TimeoutConfig(total=20, attempt=5)
    assert own.timeout == TimeoutConfig(total=3, attempt=5, idle=9)
    assert preset.timeout == TimeoutConfig(total=15, attempt=5)
    assert loaded.origins["routes", "plain", "timeout.total"] == "defaults, line 5"
    assert loaded.origins["routes", "own", "timeout.total"] == "route, line 8"
    assert loaded.origins["routes", "own", "timeout.attempt"] == "defaults, line 5"
    assert loaded.origins["routes", "own", "timeout.first_byte"] == "built in"
    assert loaded.origins["routes", "preset", "timeout.total"] == "preset search, route, line 9"


# --- headers, rewrite, upstream -------------------------------------------------------------------------------------


def test_each_header_name_is_a_key_of_its_own_over_the_defaults(tmp_path: Path) -> None:
    text = f"""\
{UPSTREAMS}
defaults:
  headers: {{request: {{set: {{X-A: default, X-B: default}}, remove: [X-C, X-D]}}}}
routes:
  - {{name: r, match: GET /, headers: {{request: {{set: {{x-a: route, X-C: route}}, remove: [X-B]}}}}}}
"""
    loaded = load_text(tmp_path, text)

    assert loaded.config.routes[0].headers.request == HeaderEdit(
        set={"x-a": "route", "X-C": "route"}, remove=("X-B", "X-D")
    )
    assert loaded.config.routes[0].headers == HeaderEdits(request=loaded.config.routes[0].headers.request)
    assert loaded.origins["routes", "r", "headers.request.x-a"] == "route, line 7"
    assert loaded.origins["routes", "r", "headers.request.x-d"] == "defaults, line 5"


def test_a_route_overrides_upstream_and_rewrite_of_the_defaults(tmp_path: Path) -> None:
    text = """\
upstreams: {a: {url: 'http://a'}, b: {url: 'http://b'}}
defaults: {upstream: a, rewrite: /fixed}
routes:
  - {name: r, match: GET /r}
  - {name: s, match: GET /s, upstream: b, rewrite: off}
"""
    loaded = load_text(tmp_path, text)

    assert [(route.upstream, route.rewrite) for route in loaded.config.routes] == [("a", "/fixed"), ("b", None)]
    assert loaded.origins["routes", "r", "upstream"] == "defaults, line 2"
    assert loaded.origins["routes", "s", "rewrite"] == "route, line 5"


def test_the_only_upstream_needs_no_name(tmp_path: Path) -> None:
    assert load_text(tmp_path, UPSTREAMS + ROUTES).origins["routes", "all", "upstream"] == "the only one"


# --- upstreams and server -------------------------------------------------------------------------------------------


def test_health_short_form_is_a_path(tmp_path: Path) -> None:
    upstream = load_text(tmp_path, with_upstream("{url: 'http://a', health: /up, ejection: off}")).config.upstreams[
        "api"
    ]

    assert upstream.health == HealthCheck(path="/up")
    assert upstream.ejection is None


def test_endpoints_and_settings_of_an_upstream_are_kept(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, with_upstream("{endpoints: ['http://a', 'http://b:81'], host: upstream, max_age: 2m}"))
    upstream = loaded.config.upstreams["api"]

    assert [str(url) for url in upstream.endpoints] == ["http://a", "http://b:81"]
    assert (upstream.name, upstream.host, upstream.max_age, upstream.max_connections) == ("api", "upstream", 120.0, 64)
    assert loaded.origins["upstreams", "api", "max_age"] == "written, line 2"
    assert loaded.origins["upstreams", "api", "max_connections"] == "built in"


@pytest.mark.parametrize(
    ("profile", "drain", "slow", "origin"),
    [
        (None, 15.0, 5.0, "built in"),
        ("development", 2.0, 1.0, "profile development"),
        ("production", 15.0, 5.0, "built in"),
    ],
)
def test_a_profile_is_where_defaults_start(
    tmp_path: Path, profile: str | None, drain: float, slow: float, origin: str
) -> None:
    loaded = load_text(tmp_path, (f"profile: {profile}\n" if profile else "") + UPSTREAMS + ROUTES)

    assert loaded.config.profile == profile
    assert (loaded.config.server.drain, loaded.config.server.slow_request) == (drain, slow)
    assert loaded.origins["server", "drain"] == origin


def test_what_is_written_wins_over_the_profile(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, "profile: development\n" + with_server("{drain: 9s}"))

    assert (loaded.config.server.drain, loaded.config.server.slow_request) == (9.0, 1.0)
    assert loaded.origins["server", "drain"] == "written, line 2"


def test_without_a_word_the_server_is_the_built_in_one(tmp_path: Path) -> None:
    assert load_text(tmp_path, UPSTREAMS + ROUTES).config.server == ServerConfig()


@pytest.mark.parametrize(("written", "expected"), [("stderr", "stderr"), ("off", None), ("/var/log/a", "/var/log/a")])
def test_access_log_words_and_absolute_paths_are_kept(tmp_path: Path, written: str, expected: str | None) -> None:
    assert load_text(tmp_path, with_server(f"{{access_log: {written}}}")).config.server.access_log == expected


def test_relative_files_start_from_the_folder_of_the_policies_file(tmp_path: Path) -> None:
    config = load_text(tmp_path, with_server("{access_log: logs/access.json}")).config

    assert config.server.access_log == str(tmp_path / "logs/access.json")


# --- TLS ------------------------------------------------------------------------------------------------------------


TLS = with_upstream("{url: 'https://a', tls: {ca: ca.pem, cert: client.pem, key: client.key, server_name: API.test}}")


def test_tls_files_are_found_beside_the_policies_file(tmp_path: Path) -> None:
    files = Certificates(tmp_path)

    tls = load_text(tmp_path, TLS).config.upstreams["api"].tls

    assert (tls.ca, tls.cert, tls.key) == (str(files.ca_file), str(files.client_cert), str(files.client_key))
    assert tls.server_name == "api.test"


def test_a_renewed_certificate_changes_the_digest_and_the_upstream(tmp_path: Path) -> None:
    Certificates(tmp_path)
    before = load_text(tmp_path, TLS).config
    again = load_text(tmp_path, TLS).config

    (tmp_path / "client.pem").unlink()
    Certificates(tmp_path)
    renewed = load_text(tmp_path, TLS).config

    assert (again.digest, again.upstreams) == (before.digest, before.upstreams)
    assert renewed.digest != before.digest
    assert renewed.upstreams != before.upstreams


def test_files_that_are_missing_are_all_named(tmp_path: Path) -> None:
    missing = problems_of(tmp_path, TLS)

    assert [problem.split(" ")[0] for problem in missing] == ["2:37:", "2:51:", "2:68:"]
    assert all("cannot read" in problem and "No such file" in problem for problem in missing)


def test_a_ca_file_without_certificates_is_refused(tmp_path: Path) -> None:
    Certificates(tmp_path)
    (tmp_path / "ca.pem").write_text("hello")

    (problem,) = problems_of(tmp_path, TLS)

    assert problem == "2:37: the file holds no CA certificates in PEM form"


@pytest.mark.parametrize("key", ["hello", None, "encrypted"])
def test_a_key_that_does_not_fit_is_refused_without_asking_for_a_password(tmp_path: Path, key: str | None) -> None:
    files = Certificates(tmp_path)
    if key is None:
        (tmp_path / "other").mkdir()
        key = Certificates(tmp_path / "other").client_key.read_text()
    elif key == "encrypted":
        plain = load_pem_private_key(files.client_key.read_bytes(), None)
        key = plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()
    files.client_key.write_text(key)

    (problem,) = problems_of(tmp_path, TLS)

    assert problem.startswith("2:51: `cert` and `key` are not a certificate and its unencrypted key")
