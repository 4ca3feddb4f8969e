"""The tidegate command as people use it: output, exit codes, and never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import __version__
from proxy.cli import main

ROOT = Path(__file__).parents[2]
POLICIES = str(ROOT / "policies.yaml")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPSTREAM_URL", raising=False)


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    try:
        code = main(argv)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def explain(capsys: pytest.CaptureFixture[str], file: Path, *argv: str) -> tuple[int, str]:
    code, out, err = run(capsys, "explain", str(file), *argv)
    assert err == ""
    return code, out


# --- usage ----------------------------------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"tidegate {__version__}\n", "")


@pytest.mark.parametrize(
    "argv", [[], ["nope"], ["explain", "a"], ["explain", "f", "GET", "/", "-H", "bad"], ["serve", "x"]]
)
def test_wrong_usage_exits_2_and_says_how(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    code, out, err = run(capsys, *argv)

    assert (code, out) == (2, "")
    assert err.startswith("usage: tidegate")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")

    assert code == 0
    assert all(command in out for command in ("serve", "check", "schema", "routes", "explain"))


# --- check ----------------------------------------------------------------------------------------------------------


def test_check_of_a_good_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", POLICIES) == (0, f"{POLICIES}: good (12 routes, 1 upstream, profile production)\n", "")


def test_check_reads_the_current_folder(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    assert run(capsys, "check")[:2] == (0, "policies.yaml: good (12 routes, 1 upstream, profile production)\n")


def test_check_prints_every_problem_on_stderr(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "serverr: {}\n"
        "upstreams: {a: {url: 'file:///x'}}\n"
        "routes:\n"
        "  - {name: no, match: GET /}\n"
        "  - {name: b, match: GET /b, timeout: 5}\n"
        "  - {name: c, match: GET /c, mach: 012}\n"
    )

    code, out, err = run(capsys, "check", str(file))

    assert (code, out) == (1, "")
    places = [line.removeprefix(f"{file}:").split(": ")[0] for line in err.splitlines()]
    assert places == ["1:1", "2:22", "4:12", "5:39", "6:30", "6:36"]


def test_check_prints_warnings_and_passes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(
        "server: {trusted_proxies: [10.0.0.0/8]}\n"
        "upstreams: {a: {url: 'http://a'}}\n"
        "routes: [{name: r, match: GET /}]\n"
    )

    code, out, err = run(capsys, "check", str(file))

    assert (code, out) == (0, f"{file}: good (1 route, 1 upstream)\n")
    assert err.startswith(f"{file}:1:28: warning: 10.0.0.0/8 is a wide network")


@pytest.mark.parametrize("command", [["check"], ["routes"], ["explain", "GET", "/"]])
def test_a_missing_file_is_told_with_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    name, *rest = command

    code, out, err = run(capsys, name, str(tmp_path / "policies.yaml"), *rest)

    assert (code, out) == (1, "")
    assert "there is no such file: give the path of your policies file" in err


# --- schema and routes ----------------------------------------------------------------------------------------------


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "schema")

    assert code == 0
    assert json.loads(out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_routes_are_an_aligned_table_in_the_order_of_matching(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "routes", POLICIES)
    lines = out.splitlines()

    assert (code, err) == (0, "")
    assert lines[0].split() == ["MATCH", "ROUTE", "UPSTREAM", "TIMEOUTS", "POLICIES", "REWRITE"]
    assert len(lines) == 15
    column = lines[0].index("ROUTE")
    assert all(line[column - 1] == " " != line[column] for line in lines)
    assert lines[-1].startswith("* /* ")
    assert "GET /search  " in out
    assert "total 15s, idle 1m" in next(line for line in lines if line.startswith("GET /search"))


# --- explain --------------------------------------------------------------------------------------------------------

EXPLAINED = """\
server:
  listen: 127.0.0.1:8080
  hosts: [localhost, 127.0.0.1, api.test]
upstreams:
  api: {url: 'http://10.0.0.9:3000', connect_timeout: 2s}
  other: {url: 'unix:/run/other.sock', host: upstream}
defaults:
  upstream: api
  timeout: {attempt: 5s}
routes:
  - name: user
    match: GET /users/{id}/*
    timeout: search
    rewrite: /v2/{id}/*
    headers:
      request: {set: {X-Key: "${KEY}"}, remove: [Cookie]}
      response: {remove: [Server]}
  - name: login
    match: POST /login
    upstream: other
  - name: admin
    match: "* /admin/*"
  - name: rest
    match: "GET /*"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEY", "hunter2")
    path = tmp_path / "policies.yaml"
    path.write_text(EXPLAINED)
    return path


def test_explain_shows_route_policies_origins_and_what_is_sent(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, out = explain(capsys, file, "GET", "/users/42/posts/7?full=yes")

    assert code == 0
    assert (
        out
        == """\
route       user
match       GET /users/{id}/*
parameters  id = 42, * = /posts/7

Policies, outermost first
  response header Server  removed  route, line 17
  timeout.total           15s      preset search, route, line 13
  timeout.attempt         5s       defaults, line 9
  timeout.first_byte      off      built in
  timeout.idle            1m       built in

Upstream
  upstream               api                   defaults, line 8
  endpoints              http://10.0.0.9:3000  written, line 5
  host                   preserve              built in
  connect_timeout        2s                    written, line 5
  max_connections        64                    built in
  idle_timeout           4s                    built in
  max_age                1m                    built in
  rewrite                /v2/{id}/*            route, line 14
  request header X-Key   set to ***            route, line 16
  request header Cookie  removed               route, line 16

Sent to the upstream
  GET /v2/42/posts/7?full=yes HTTP/1.1
  Host: 127.0.0.1:8080
"""
    )


@pytest.mark.parametrize(
    ("argv", "host"),
    [
        (["http://api.test/x"], "api.test"),
        (["http://api.test"], "api.test"),
        (["/x", "-H", "Host: localhost:99"], "localhost:99"),
        (["http://evil/x", "-H", "host:api.test"], "api.test"),
    ],
)
def test_explain_takes_the_host_from_header_or_url(
    capsys: pytest.CaptureFixture[str], file: Path, argv: list[str], host: str
) -> None:
    code, out = explain(capsys, file, "GET", *argv)

    assert code == 0
    assert f"\n  Host: {host}\n" in out


def test_explain_uses_the_upstreams_own_host_where_it_is_so_configured(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    code, out = explain(capsys, file, "POST", "http://api.test/login")

    assert code == 0
    assert out.endswith("Sent to the upstream\n  POST /login HTTP/1.1\n  Host: localhost\n")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["POST", "http://api.test/nope"], "405 Method Not Allowed (Allow: GET, HEAD)"),
        (["TRACE", "http://api.test/"], "405 Method Not Allowed (Allow: "),
        (["BREW", "http://api.test/"], "501 Not Implemented"),
        (["GET", "http://evil.test/"], "421 Misdirected Request"),
        (["GET", "/x", "-H", "Host: evil"], "421 Misdirected Request"),
        (["GET", "/x", "-H", "Host: a b"], "400 Bad Request: Host is not"),
        (["GET", "http://api.test/%00"], "400 Bad Request: The path has a control character"),
        (["GET", "http://api.test/#x"], "400 Bad Request"),
        (["GET", "ftp://api.test/"], "400 Bad Request"),
        (["GET", "http://api.test/x", "-H", f"X-A: {'a' * 40_000}"], "431 "),
    ],
)
def test_explain_tells_refusals_and_exits_1(
    capsys: pytest.CaptureFixture[str], file: Path, argv: list[str], expected: str
) -> None:
    code, out = explain(capsys, file, *argv)

    assert code == 1
    assert out.startswith(expected)


def test_explain_tells_when_no_route_matches(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(EXPLAINED.replace('match: "GET /*"', "match: GET /only"))

    assert explain(capsys, file, "GET", "http://api.test/nope") == (1, "404 No Route\n")


def test_explain_shows_every_reading_of_an_ambiguous_path(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, out = explain(capsys, file, "GET", "http://api.test/x/..%2fadmin")

    assert code == 1
    assert out.startswith("400 Ambiguous Path: ")
    assert "\nThe path can be read in several ways\n" in out
    rows = [line.split() for line in out.splitlines()[3:]]
    assert ["/x/..%2fadmin", "rest"] in rows
    assert ["/admin", "admin"] in rows


def test_explain_shows_readings_that_agree(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, out = explain(capsys, file, "GET", "http://api.test/a%2fb")

    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["/a%2fb", "rest"] in rows
    assert ["/a/b", "rest"] in rows
    assert "  GET /a%2fb HTTP/1.1\n" in out


def test_explain_of_options_star_is_answered_here(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    code, out = explain(capsys, file, "OPTIONS", "*", "-H", "Host: api.test")

    assert (code, out) == (0, "OPTIONS * is about Tidegate itself, which answers it.\n")


@pytest.mark.parametrize(("listen", "host"), [(":81", "localhost:81"), ("unix:/run/t.sock", "localhost")])
def test_explain_without_a_host_asks_the_listener(
    capsys: pytest.CaptureFixture[str], file: Path, listen: str, host: str
) -> None:
    file.write_text(EXPLAINED.replace("127.0.0.1:8080", f"'{listen}'"))

    assert f"Host: {host}\n" in explain(capsys, file, "GET", "/x")[1]


def test_explain_prints_nothing_that_steers_a_terminal(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    file.write_text(EXPLAINED.replace("hosts: [localhost, 127.0.0.1, api.test]", "hosts: []"))

    _, out = explain(capsys, file, "GET", "/users/\x9b31m\u202e/x")

    assert all(char.isprintable() or char == "\n" for char in out)


# --- as a process ---------------------------------------------------------------------------------------------------


def tidegate(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd or ROOT, timeout=30)


def test_serve_without_a_usable_file_exits_1_and_says_why(tmp_path: Path) -> None:
    done = tidegate("serve", "--policies", str(tmp_path / "nope.yaml"))

    assert done.returncode == 1
    assert "nope.yaml: there is no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_module_is_the_command() -> None:
    assert tidegate("--version").stdout == f"tidegate {__version__}\n"


def test_version_and_check_do_not_load_the_server() -> None:
    code = (
        "import sys; from proxy.cli import main; main(['check', 'policies.yaml']); "
        "print([name for name in ('aiohttp', 'uvloop', 'prometheus_client') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=30
    )

    assert done.stdout.endswith("[]\n")


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "proxy", "routes"],
            stdout=closed,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            check=False,
            timeout=30,
        )

    assert done.returncode == 1
    assert done.stderr == b""


def test_an_interrupt_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("proxy.policies_file.load", interrupted)

    assert main(["check", POLICIES]) == 130
