"""The policies files that users start from load, and the JSON Schema agrees with the loader about them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.config.schema import policies_schema
from proxy.policies_file import load
from tests.support.policies import ROUTES, UPSTREAMS, load_text, problems_of

ROOT = Path(__file__).parents[2]
WHOLE_FILE = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)


def documented_files() -> list[tuple[str, str]]:
    """The YAML blocks of the docs that show a whole file, with the places they come from."""
    blocks = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for match in WHOLE_FILE.finditer(path.read_text(encoding="utf-8")):
            if re.search("^upstreams:", match[1], re.MULTILINE) and re.search("^routes:", match[1], re.MULTILINE):
                line = path.read_text(encoding="utf-8").count("\n", 0, match.start()) + 1
                blocks.append((f"{path.relative_to(ROOT)}:{line}", match[1]))
    return blocks


@pytest.fixture(scope="module")
def schema_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("schema") / "policies.schema.json"
    path.write_text(json.dumps(policies_schema()), encoding="utf-8")
    return path


def schema_accepts(schema_file: Path, policies: Path) -> bool:
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema_file), str(policies)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_root_file_loads_without_a_warning_and_without_any_variable() -> None:
    loaded = load(ROOT / "policies.yaml", {})

    assert loaded.warnings == []
    assert str(loaded.config.upstreams["property-service"].endpoints[0]) == "http://127.0.0.1:3000"


def test_the_root_file_takes_its_upstream_from_the_environment() -> None:
    config = load(ROOT / "policies.yaml", {"UPSTREAM_URL": "https://api.internal"}).config

    assert str(config.upstreams["property-service"].endpoints[0]) == "https://api.internal"


def test_the_schema_is_a_schema_and_accepts_the_root_file(schema_file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--check-metaschema", str(schema_file)]

    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert schema_accepts(schema_file, ROOT / "policies.yaml")


@pytest.mark.parametrize(
    "text",
    [
        f"nope: 1\n{UPSTREAMS}{ROUTES}",
        f"server: {{nope: 1}}\n{UPSTREAMS}{ROUTES}",
        f"{UPSTREAMS}routes:\n  - {{name: a, match: GET /, retires: 1}}\n",
        f"{UPSTREAMS}routes:\n  - {{name: a, match: GET /, retry: {{max_attempts: 0}}}}\n",
        f"{UPSTREAMS}routes:\n  - {{name: a, match: GET /, timeout: 5}}\n",
        f"{UPSTREAMS}routes:\n  - {{name: a, match: GET /, cache: true}}\n",
        f"{UPSTREAMS}routes:\n  - {{name: a, match: GET /, cache: {{tags: ['a=b']}}}}\n",
        f"{UPSTREAMS}routes:\n  - {{name: a, match: POST /, invalidate: 'a:*:b'}}\n",
        f"{UPSTREAMS}routes:\n  - {{name: a, match: GET /, fallback: [fresh]}}\n",
        f"cache: {{warm: 5}}\n{UPSTREAMS}{ROUTES}",
        f"{UPSTREAMS}routes:\n  - {{name: a}}\n",
        f"upstreams: {{a: {{}}}}\n{ROUTES}",
        f"upstreams: {{a: {{url: 'ftp://a'}}}}\n{ROUTES}",
        f"upstreams: {{a: {{url: 'http://a', max_connections: 0}}}}\n{ROUTES}",
        UPSTREAMS,
    ],
)
def test_schema_and_loader_refuse_the_same_mistakes(tmp_path: Path, schema_file: Path, text: str) -> None:
    assert problems_of(tmp_path, text)
    assert not schema_accepts(schema_file, tmp_path / "policies.yaml")


EVERY_SHORT_FORM = """\
profile: development
server:
  listen: :8080
  admin: unix:/run/tidegate-admin.sock
  health: off
  hosts: [api.test, "api.test:8443"]
  trusted_proxies: [10.0.0.1]
  slow_request: none
  ready_needs_upstream: ${READY:-false}
  limits: {max_connections: "${MAX:-100}", max_head: 64KiB, max_body: off}
  workers: 1
upstreams:
  a: {url: http://127.0.0.1:3000, health: /up, host: upstream}
  b: {endpoints: ["https://b.test"], health: {path: "/up?x=1", interval: 1s}, ejection: off, tls: {server_name: b}}
redis: redis://localhost
cache: {max_bytes: 1GiB, compress_above: off, warm: [/k]}
breakers: {ml: {consecutive_failures: 3}}
bulkheads: {db: database, own: {max_concurrent: 3}}
defaults: {upstream: a, timeout: search, security_headers: off, retry: none}
routes:
  - {name: p, match: GET /p, retry: fast, breaker: ml, bulkhead: slow, rate_limit: 5/s, fallback: [{null_fields: a}]}
  - {name: q, match: GET /q, breaker: {use: ml, mode: shadow}, bulkhead: db, rate_limit: [5/s, {rate: 9/min, burst: 3}]}
  - {name: r, match: GET /r, breaker: {failure_ratio: 50%}, bulkhead: {use: own}, fallback: {steps: [{upstream: b}]}}
  - {name: s, match: GET /s, breaker: off, bulkhead: none, rate_limit: off, fallback: off, timeout: {mode: off}}
  - {name: t, match: GET /t, fallback: [{static: {body: {a: null}}}, {null_fields: [a, b]}], criticality: critical}
  - {name: x, match: GET /x, timeout: off}
  - {name: y, match: [GET /y, "* /z/{id}/*"], upstream: b, timeout: 1m30s, rewrite: off, cache: off}
  - {name: k, match: GET /k, cache: 5m, invalidate: off}
  - {name: l, match: GET /l, cache: search, fallback: [stale, last_known_good, {stale: true}]}
  - {name: m, match: GET /m, cache: {negative_ttl: off, per_user: api_key, query: [], set_cookie: store, tags: ["a:b"]}}
  - {name: n, match: GET /n, cache: {per_user: [api_key, "cookie:s"], key: "a:{query.b}", ttl: "${TTL:-1m}", mode: off}}
  - {name: u, match: POST /u, invalidate: "a:*"}
  - {name: v, match: "DELETE /v/{id}", invalidate: ["a:{id}", "*"]}
  - {name: w, match: PUT /w, invalidate: {tags: [a], mode: shadow}}
  - {name: z, match: POST /z, timeout: {total: none, attempt: 5s}, headers: {request: {set: {X-A: b}, remove: [X-B]}}}
"""


def test_schema_and_loader_accept_every_short_form(tmp_path: Path, schema_file: Path) -> None:
    load_text(tmp_path, EVERY_SHORT_FORM.replace('"* /z/{id}/*"', "'* /z/*'"))

    assert schema_accepts(schema_file, tmp_path / "policies.yaml")


@pytest.mark.parametrize(("place", "text"), documented_files(), ids=lambda value: value if ".md:" in value else "")
def test_documented_files_load_and_pass_the_schema(tmp_path: Path, schema_file: Path, place: str, text: str) -> None:
    load_text(tmp_path, text, {"ADMIN_TOKEN": "t", "UPSTREAM_URL": "http://api"})

    assert schema_accepts(schema_file, tmp_path / "policies.yaml"), place


def test_the_documentation_shows_whole_files() -> None:
    assert any(place.startswith("docs/configuration.md:") for place, _ in documented_files())


def test_every_key_of_the_schema_is_documented() -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    definitions = policies_schema()["$defs"]
    keys = {key for each in definitions.values() for key in each.get("properties", {})}

    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []
