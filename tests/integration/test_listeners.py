"""Where Tidegate listens, what it says about itself there, and what it does when it cannot."""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.config.problems import ConfigError
from tests.support.aftermath import assert_problem
from tests.support.app import running_app
from tests.support.client import RawClient, fetch, get
from tests.support.settings import free_port, policies
from tests.support.sidecar import ROOT
from tests.support.upstream import ScriptedUpstream, refusing_port

HEALTH = {"path": "/health", "interval": "50ms", "timeout": "1s", "unhealthy_after": 1}


async def test_ready_with_its_upstream_down_unless_told_otherwise() -> None:
    with refusing_port() as port:
        async with running_app(policies(f"http://127.0.0.1:{port}", options={"health": HEALTH})) as app:
            await _until_upstream_is(app.admin_port, "unhealthy")
            answer = await get(app.admin_port, "/readyz")
            assert (answer.status, answer.json()["ready"]) == (200, True)


async def test_ready_needs_upstream_follows_the_upstream() -> None:
    upstream = ScriptedUpstream()
    await upstream.start()
    await upstream.stop()
    server = {"ready_needs_upstream": True}
    async with running_app(policies(upstream.url, server=server, options={"health": HEALTH})) as app:
        await _until_upstream_is(app.admin_port, "unhealthy")
        answer = await get(app.admin_port, "/readyz")
        assert (answer.status, answer.json()["reasons"]) == (503, ["upstream api has no healthy endpoint"])
        assert (await get(app.admin_port, "/healthz")).status == 200
        assert await app.metric("proxy_ready") == 0

        async with upstream:
            await _until_upstream_is(app.admin_port, "healthy")
            assert (await get(app.admin_port, "/readyz")).status == 200
            assert await app.metric("proxy_ready") == 1


async def _until_upstream_is(admin_port: int, state: str) -> None:
    async with asyncio.timeout(10):
        while True:
            (endpoint,) = (await get(admin_port, "/readyz")).json()["upstreams"]["api"]
            if endpoint["state"] == state:
                return
            await asyncio.sleep(0.02)


async def test_health_listener_has_three_paths_and_nothing_else() -> None:
    port = free_port()
    server = {"health": f"127.0.0.1:{port}"}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server)) as app:
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await get(port, path)).status == 200
        for path in ("/", "/routes", "/config", "/version", "/reload", "/metrics/x"):
            assert (await get(port, path)).status == 404
        assert (await fetch(port, "POST", "/reload")).status == 404
        assert (await get(app.admin_port, "/routes")).status == 200


async def test_data_listener_on_a_unix_socket_replaces_a_stale_file(tmp_path: Path) -> None:
    path = tmp_path / "data.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = {"listen": f"unix:{path}"}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server)) as app:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()

        assert upstream.hits("/a") == 1
        (line,) = await app.access_log()
        assert line["client_ip"] == "unknown"
    assert not path.exists()


async def test_socket_of_a_live_process_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "data.sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        with pytest.raises(OSError, match="cannot listen on"):
            async with running_app(policies("http://127.0.0.1:1", server={"listen": f"unix:{path}"})):
                pass
        assert path.exists()


@pytest.mark.parametrize("listener", ["listen", "admin", "health"])
def test_taken_port_is_one_clear_line_and_exit_code_1(tmp_path: Path, listener: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = serve(tmp_path, {listener: f"127.0.0.1:{port}"})

    assert ended.returncode == 1
    assert ended.stderr == f"tidegate: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_log_that_cannot_be_opened_is_one_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    ended = serve(tmp_path, {"access_log": "/nowhere/access.log"})

    assert ended.returncode == 1
    assert ended.stderr == "tidegate: /nowhere/access.log: No such file or directory\n"


def serve(folder: Path, server: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A process that is expected to end by itself."""
    defaults = {"listen": "127.0.0.1:0", "admin": "off", "access_log": "off"}
    file = folder / "policies.yaml"
    file.write_text(policies("http://127.0.0.1:1", server={**defaults, **server}))
    command = [sys.executable, "-m", "proxy", "serve", "--policies", str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


async def test_file_that_cannot_be_used_starts_nothing() -> None:
    with pytest.raises(ConfigError):
        async with running_app(json.dumps({"routes": []})):
            pass


async def test_options_asterisk_is_answered_here() -> None:
    async with (
        ScriptedUpstream() as upstream,
        running_app(policies(upstream.url)) as app,
        RawClient(app.port) as client,
    ):
        answer = await client.request("OPTIONS", "*")

        assert (answer.status, answer.body) == (204, b"")
        assert "GET" in (answer.header("Allow") or "")
        assert (await client.request("GET", "/")).status == 200
        assert upstream.hits("*") == 0


async def test_authority_that_is_not_served_is_421() -> None:
    server = {"hosts": ["api.example"]}
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url, server=server)) as app:
        async with RawClient(app.port) as client:
            assert_problem(await client.request("GET", "/", {"Host": "evil.example"}), 421, "http_request_error")
            for host in ("api.example", "API.example", "api.example:8080"):
                assert (await client.request("GET", "/", {"Host": host})).status == 200, host
        assert len(upstream.requests) == 3
