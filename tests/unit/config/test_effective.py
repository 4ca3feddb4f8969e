"""The printed configuration and its digest."""

import json
from pathlib import Path

import pytest

from proxy.config.effective import effective
from tests.support.policies import ROUTES, UPSTREAMS, load_text, with_route, with_server, with_upstream

SECRETS = """\
server: {admin: {token: hunter2-token}}
upstreams: {api: {url: 'http://a'}}
routes:
  - {name: r, match: GET /, headers: {request: {set: {Authorization: 'Bearer ${KEY}'}}}}
"""


def test_printed_values_are_in_their_yaml_form(tmp_path: Path) -> None:
    text = with_server("{health: off, trusted_proxies: [10.0.0.1, 10.1.0.0/16], limits: {max_body: off}}")

    printed = effective(load_text(tmp_path, text).config)

    server, route = printed["server"], printed["routes"][0]
    assert server["listen"] == "0.0.0.0:8080"
    assert server["health"] == "off"
    assert server["trusted_proxies"] == ["10.0.0.1", "10.1.0.0/16"]
    assert server["limits"]["max_body"] == "off"
    assert server["admin"] == {"listen": "127.0.0.1:9901", "allow": []}
    limits = {"total": "30s", "attempt": "off", "first_byte": "off", "idle": "1m"}
    assert route["timeout"] == {"mode": "enforce", "enforce_percent": "100%", **limits}
    assert printed["upstreams"]["api"]["endpoints"] == ["http://127.0.0.1:3000"]
    assert "profile" not in printed


def test_printed_values_are_json_without_secrets(tmp_path: Path) -> None:
    config = load_text(tmp_path, SECRETS, {"KEY": "hunter2-key"}).config

    printed = json.dumps(effective(config))

    assert "hunter2" not in printed + repr(config.server)
    assert printed.count('"***"') == 2
    assert config.routes[0].headers.request.set == {"Authorization": "Bearer hunter2-key"}


def digest(folder: Path, text: str, **env: str) -> str:
    return load_text(folder, text, env).config.digest


def test_spelling_does_not_change_the_digest(tmp_path: Path) -> None:
    short = with_route("timeout: 60s")

    assert digest(tmp_path, short) == digest(tmp_path, "# hello\n" + with_route("timeout: {total: 1m}"))
    assert digest(tmp_path, UPSTREAMS + ROUTES) == digest(tmp_path, ROUTES + UPSTREAMS)
    assert len(digest(tmp_path, short)) == 64


@pytest.mark.parametrize(
    "text",
    [with_route("timeout: 61s"), with_server("{drain: 16s}"), with_upstream("{url: 'http://b'}"), UPSTREAMS + ROUTES],
)
def test_any_value_changes_the_digest(tmp_path: Path, text: str) -> None:
    assert digest(tmp_path, text) != digest(tmp_path, with_route("timeout: 60s"))


def test_secrets_change_the_digest(tmp_path: Path) -> None:
    base = digest(tmp_path, SECRETS, KEY="a")

    assert digest(tmp_path, SECRETS, KEY="b") != base
    assert digest(tmp_path, SECRETS.replace("hunter2", "hunter3"), KEY="a") != base
    assert digest(tmp_path, SECRETS, KEY="a") == base
