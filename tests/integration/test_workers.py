"""Several workers behave as one Tidegate: start, stop, reload, and what the admin listener says."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.app import App
from proxy.process import StartFailed
from proxy.workers.supervisor import Supervisor
from proxy.workers.timing import Timing
from tests.support.aftermath import until_metric
from tests.support.client import RawClient, fetch, get
from tests.support.messages import Response
from tests.support.settings import complete, free_port, policies
from tests.support.sidecar import ROOT, Sidecar
from tests.support.steps import Gate, chunk, head, last_chunk
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually
from tests.support.workers import RunningSupervisor, running_supervisor, until_not_ready, until_ready, workers_of

TWO = {"workers": 2}
CHUNKED = {"Transfer-Encoding": "chunked"}
BREAKER = {"breaker": {"consecutive_failures": 5}}


async def reload(instance: RunningSupervisor | Sidecar) -> Response:
    return await fetch(instance.admin_port, "POST", "/reload")


def marked(url: str, mark: str, **server: Any) -> str:
    """A configuration whose responses carry `mark`."""
    return policies(url, server=server, route={"headers": {"response": {"set": {"X-Mark": mark}}}})


async def marks(port: int, requests: int = 24) -> set[str | None]:
    """What as many new connections as make both workers answer get to see."""
    return {(await get(port, "/")).header("X-Mark") for _ in range(requests)}


# --- start ----------------------------------------------------------------------------------------------------------


async def test_connections_go_to_all_workers() -> None:
    async with ScriptedUpstream() as upstream, running_supervisor(policies(upstream.url)) as app:
        for _ in range(40):
            assert (await get(app.port, "/")).status == 200
        assert len({request.connection for request in upstream.requests}) >= 2, "each worker has its own"
        # A worker that is too busy to say what it has counted is shown as it was a second ago.
        await until_metric(app, 40, "proxy_requests_total", route="everything", status="2xx")
        assert len(await app.access_log(lines=40)) == 40


async def test_data_port_may_be_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "data.sock"
    server = {"listen": f"unix:{path}"}
    async with ScriptedUpstream() as upstream:
        async with running_supervisor(policies(upstream.url, server=server)) as app:
            (first, _) = await until_ready(app, 2)
            os.kill(first, signal.SIGTERM)
            await until_ready(app, 2, without=first)
            assert app.port == 0
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()
        assert not path.exists()


async def refusal_of(make: Callable[[Path], App | Supervisor], file: Path) -> str:
    with pytest.raises((OSError, StartFailed)) as failure:
        await make(file).start()
    return str(failure.value)


async def test_port_that_is_taken_is_named_as_with_one_process(tmp_path: Path) -> None:
    async with ScriptedUpstream() as taken:
        server = {"listen": f"127.0.0.1:{taken.port}"}
        file = tmp_path / "policies.yaml"
        file.write_text(complete(policies("http://127.0.0.1:1", server=server), tmp_path))
        one = await refusal_of(App, file)
        several = await refusal_of(lambda path: Supervisor(path, 2), file)

    assert f"cannot listen on 127.0.0.1:{taken.port}" in several
    assert several == one


async def test_port_of_other_workers_is_taken_too(tmp_path: Path) -> None:
    """They share it among themselves, and with nobody else."""
    async with running_supervisor(policies("http://127.0.0.1:1")) as app:
        file = tmp_path / "policies.yaml"
        file.write_text(complete(policies("http://127.0.0.1:1"), tmp_path, port=app.port))

        assert "Address already in use" in await refusal_of(lambda path: Supervisor(path, 2), file)


@pytest.mark.parametrize("server", [{"access_log": "missing/folder/access.log"}, {"listen": "192.0.2.1:1"}])
async def test_start_that_fails_says_and_returns_what_one_process_does(server: dict[str, Any]) -> None:
    said = []
    for workers in (1, 2):
        sidecar = Sidecar(policies("http://127.0.0.1:1", server={**server, "workers": workers}))
        with pytest.raises(RuntimeError, match=r"^ended with 1: tidegate: "):
            async with sidecar:
                pass
        said.append(sidecar.process.returncode)
    assert said == [1, 1]


async def test_mistakes_in_the_file_are_reported_once(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^ended with 1: [^\n]+colour[^\n]+\n$"):
        async with Sidecar(policies("http://127.0.0.1:1", server=TWO, options={"colour": 1})):
            pass


async def test_workers_that_end_before_they_are_ready_make_the_start_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(complete(policies("http://127.0.0.1:1"), tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))

    assert "did not get ready: it is gone" in await refusal_of(lambda path: Supervisor(path, 2), file)


@pytest.mark.parametrize("obstacle", ["interpreter that ends", "no interpreter"])
async def test_worker_that_cannot_start_again_is_tried_again(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedUpstream() as upstream, running_supervisor(policies(upstream.url)) as app:
        victim, _ = await until_ready(app, 2)
        with monkeypatch.context() as patch:
            if obstacle == "no interpreter":
                patch.setattr(sys, "executable", str(tmp_path / "python"))
            else:
                patch.setenv("PYTHONHOME", str(tmp_path))
            os.kill(victim, signal.SIGKILL)
            await until_metric(app, 1, "proxy_worker_restarts_total", reason="crashed")
            assert (await get(app.port, "/")).status == 200
            assert (await get(app.admin_port, "/readyz")).status == 200

        await until_ready(app, 2, without=victim)
        problems = [getattr(record, "problem", "") for record in caplog.records]
        assert any("it is gone" in text or "No such file" in text for text in problems)


@pytest.mark.parametrize("after", [0.05, 0.5, 0.8])
async def test_sigterm_during_the_start_ends_it(after: float) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sidecar = Sidecar(policies("http://127.0.0.1:1", server=TWO))
        stack.push_async_exit(sidecar)
        sidecar.start()
        await asyncio.sleep(after)
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.wait_exit(within=30) in (0, -signal.SIGTERM)
        assert "Traceback" not in sidecar.stderr


async def test_workers_run_with_the_options_of_their_supervisor() -> None:
    async with (
        ScriptedUpstream() as upstream,
        Sidecar(policies(upstream.url, server=TWO), python=("-O", "-X", "dev")) as sidecar,
    ):
        for pid in await until_ready(sidecar, 2):
            command = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")
            assert b"-O" in command
            assert b"dev" in command
        assert (await get(sidecar.port, "/")).status == 200


async def test_health_listener_speaks_for_all_workers() -> None:
    port = free_port()
    async with running_supervisor(policies("http://127.0.0.1:1", server={"health": f"127.0.0.1:{port}"})):
        assert (await get(port, "/readyz")).status == 200
        assert b'proxy_workers{state="ready"} 2' in (await get(port, "/metrics")).body
        assert (await get(port, "/config")).status == 404


# --- stop -----------------------------------------------------------------------------------------------------------


async def test_sigterm_lets_every_worker_finish_and_leaves_no_process() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url, server=TWO)) as sidecar:
        upstream.on("/stream", head(200, CHUNKED), chunk(b"first"), gate, chunk(b"last"), last_chunk())
        pids = await until_ready(sidecar, 2)
        streams = [asyncio.ensure_future(get(sidecar.port, "/stream")) for _ in range(12)]
        await upstream.wait_until(lambda: upstream.hits("/stream") == 12)

        sidecar.signal(signal.SIGTERM)
        await _until_draining(sidecar)
        assert sidecar.process.poll() is None
        gate.open()
        answers = await asyncio.gather(*streams)
        assert await sidecar.wait_exit() == 0

    assert all(answer.complete and answer.body == b"firstlast" for answer in answers)
    assert not any((Path("/proc") / str(pid)).exists() for pid in pids)


async def _until_draining(sidecar: Sidecar) -> None:
    readiness = await until_not_ready(sidecar)
    assert readiness["reasons"] == ["draining"]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_ends_the_drain(ending: signal.Signals) -> None:
    gate = Gate()
    server = {"workers": 2, "drain": "50s"}
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url, server=server)) as sidecar:
        upstream.on("/hang", gate)
        async with RawClient(sidecar.port) as client:
            await client.send_request("GET", "/hang")
            await upstream.wait_for_requests(1)
            sidecar.signal(signal.SIGTERM)
            await _until_draining(sidecar)
            started = time.monotonic()
            sidecar.signal(ending)
            assert await sidecar.wait_exit() == 0
            assert time.monotonic() - started < 10
        gate.open()
        assert "Traceback" not in sidecar.stderr


async def test_worker_that_does_not_stop_is_killed_after_the_drain() -> None:
    server = {"workers": 2, "drain": "1s"}
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url, server=server)) as sidecar:
        victim, _ = await until_ready(sidecar, 2)
        os.kill(victim, signal.SIGSTOP)
        assert await sidecar.stop(within=30) == 0
        assert not (Path("/proc") / str(victim)).exists()


async def test_worker_that_is_told_to_end_finishes_and_is_replaced() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_supervisor(policies(upstream.url)) as app:
        upstream.on("/stream", head(200, CHUNKED), chunk(b"first"), gate, chunk(b"last"), last_chunk())
        pids = await until_ready(app, 2)
        streams = [asyncio.ensure_future(get(app.port, "/stream")) for _ in range(12)]
        await upstream.wait_until(lambda: upstream.hits("/stream") == 12)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(1.0)  # until neither of them accepts any more
        waiting = asyncio.ensure_future(get(app.port, "/"))
        gate.open()

        answers = await asyncio.gather(*streams)
        assert all(answer.complete and answer.body == b"firstlast" for answer in answers)
        assert (await waiting).status == 200, "the port was open all the time: whoever comes next has served it"
        await until_metric(app, 2, "proxy_worker_restarts_total", reason="killed")


# --- reload ---------------------------------------------------------------------------------------------------------


async def test_reload_reaches_every_worker() -> None:
    async with ScriptedUpstream() as upstream, running_supervisor(marked(upstream.url, "1")) as app:
        assert await marks(app.port) == {"1"}
        app.write_policies(marked(upstream.url, "2"))
        answer = await reload(app)

        assert answer.status == 200
        assert await marks(app.port) == {"2"}
        digests = {worker["config"] for worker in await workers_of(app)}
        assert digests == {answer.json()["digest"]}
        assert await app.metric("proxy_config_reloads_total", result="success") == 1, "one, not one for each worker"
        assert await app.metric("proxy_config_info", digest=answer.json()["digest"]) == 1


async def test_changed_file_is_noticed_and_sighup_reloads() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(marked(upstream.url, "1", workers=2)) as sidecar:
        await until_ready(sidecar, 2)
        sidecar.write_policies(marked(upstream.url, "2", workers=2))
        await until_metric(sidecar, 1, "proxy_config_reloads_total", result="success")
        assert await marks(sidecar.port) == {"2"}

        sidecar.signal(signal.SIGHUP)
        await until_metric(sidecar, 2, "proxy_config_reloads_total", result="success")


async def test_worker_that_starts_after_a_refused_reload_has_what_is_in_force() -> None:
    async with ScriptedUpstream() as upstream, running_supervisor(marked(upstream.url, "1")) as app:
        app.write_exactly('{"routes": []}')
        answer = await reload(app)
        assert answer.status == 422
        assert "upstreams" in answer.json()["detail"]
        victim, _ = await until_ready(app, 2)
        os.kill(victim, signal.SIGKILL)
        await until_ready(app, 2, without=victim)

        assert await marks(app.port) == {"1"}
        assert await app.metric("proxy_config_reloads_total", result="failure") >= 1


async def test_what_no_worker_can_use_stays_out_of_force() -> None:
    """The file is in order; that its log cannot be opened shows only when it is."""
    async with ScriptedUpstream() as upstream, running_supervisor(marked(upstream.url, "1")) as app:
        before = (await get(app.admin_port, "/readyz")).json()["config"]
        app.write_policies(marked(upstream.url, "2", access_log="missing/folder/access.log"))
        answer = await reload(app)

        assert answer.status == 422
        assert "missing/folder" in answer.json()["detail"]
        assert await marks(app.port) == {"1"}
        assert {worker["config"] for worker in await workers_of(app)} == {before}
        assert await app.metric("proxy_worker_restarts_total") == 0


@pytest.mark.parametrize("blocked", [60.0, 1.0])
async def test_worker_that_does_not_take_the_new_configuration_is_replaced(blocked: float) -> None:
    """Whether or not it is known to be blocked."""
    timing = Timing(blocked=blocked, kill=60.0, reload=2.0)
    async with ScriptedUpstream() as upstream, running_supervisor(marked(upstream.url, "1"), timing=timing) as app:
        victim, _ = await until_ready(app, 2)
        os.kill(victim, signal.SIGSTOP)
        app.write_policies(marked(upstream.url, "2", drain="1s"))
        answer = await reload(app)
        assert answer.status == 200

        await until_ready(app, 2, without=victim)
        assert await marks(app.port) == {"2"}
        assert await app.metric("proxy_worker_restarts_total", reason="reload") == 1


async def test_change_of_the_number_of_workers_waits_for_the_next_start(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedUpstream() as upstream, running_supervisor(policies(upstream.url, server=TWO)) as app:
        app.write_policies(policies(upstream.url, server={"workers": 3}))
        assert (await reload(app)).status == 200

        assert "server.workers has changed: it takes effect at the next start" in caplog.text
        assert len(await workers_of(app)) == 2


async def test_admin_token_changes_with_the_file() -> None:
    async with ScriptedUpstream() as upstream, running_supervisor(policies(upstream.url)) as app:
        admin = {"listen": f"127.0.0.1:{app.admin_port}", "token": "a-token-that-is-long-enough"}
        app.write_policies(policies(upstream.url, server={"admin": admin}))
        assert (await reload(app)).status == 200

        assert (await get(app.admin_port, "/config")).status == 401


# --- what the admin listener says -----------------------------------------------------------------------------------


async def test_routes_show_the_requests_of_all_workers() -> None:
    async with ScriptedUpstream() as upstream, running_supervisor(policies(upstream.url)) as app:
        for _ in range(30):
            await get(app.port, "/")
        (route,) = (await get(app.admin_port, "/routes")).json()["routes"]

        assert route["name"] == "everything"
        assert (route["statistics"]["total"], route["statistics"]["count"], route["in_flight"]) == (30, 30, 0)
        assert 0 < route["statistics"]["min"] <= route["statistics"]["p50"] <= route["statistics"]["max"]


async def test_limits_shown_are_those_of_the_whole() -> None:
    server = {"limits": {"max_connections": 101}}
    async with ScriptedUpstream() as upstream, running_supervisor(policies(upstream.url, server=server)) as app:
        config = (await get(app.admin_port, "/config")).json()
        assert config["server"]["limits"]["max_connections"] == 101
        await until_metric(app, 101, "proxy_client_connection_limit")
        await until_metric(app, 2, "proxy_workers", state="ready")
        await until_metric(app, 1, "proxy_ready")


async def test_readiness_names_the_workers_and_the_upstreams() -> None:
    health = {"path": "/health", "interval": "50ms", "timeout": "1s", "unhealthy_after": 1}
    server = {"ready_needs_upstream": True}
    async with (
        ScriptedUpstream() as upstream,
        running_supervisor(policies(upstream.url, server=server, options={"health": health})) as app,
    ):
        assert [worker["worker"] for worker in await workers_of(app)] == [0, 1]
        await upstream.stop()

        readiness = await until_not_ready(app)
        assert readiness["reasons"] == ["upstream api has no healthy endpoint"]
        assert [endpoint["state"] for endpoint in readiness["upstreams"]["api"]] == ["unhealthy"]
        await until_metric(app, 0, "proxy_endpoint_healthy", upstream="api")
        await until_metric(app, 2, "proxy_workers", state="unready")
        await until_metric(app, 0, "proxy_ready")


async def test_forced_breaker_is_forced_in_every_worker_and_in_those_that_come_later() -> None:
    async with (
        ScriptedUpstream() as upstream,
        running_supervisor(policies(upstream.url, route=BREAKER)) as app,
    ):
        answer = await fetch(app.admin_port, "POST", "/breakers/everything/force?state=isolated&for=10m")
        assert [(each["worker"], each["state"]) for each in answer.json()["breakers"]] == [
            (0, "isolated"),
            (1, "isolated"),
        ]
        victim, _ = await until_ready(app, 2)
        os.kill(victim, signal.SIGKILL)
        await until_ready(app, 2, without=victim)
        assert {(await get(app.port, "/")).status for _ in range(20)} == {503}

        answer = await fetch(app.admin_port, "POST", "/breakers/everything/release")
        assert answer.status == 200
        assert {(await get(app.port, "/")).status for _ in range(20)} == {200}
        assert (await fetch(app.admin_port, "POST", "/breakers/nobody/force?state=closed&for=1m")).status == 404


# --- logs -----------------------------------------------------------------------------------------------------------


async def test_rotated_log_is_opened_anew_by_every_worker() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url, server=TWO)) as sidecar:
        await until_ready(sidecar, 2)
        await get(sidecar.port, "/before")
        await sidecar.access_log(lines=1)
        (sidecar.folder / "access.log").rename(sidecar.folder / "access.log.1")
        sidecar.signal(signal.SIGUSR1)
        await eventually((sidecar.folder / "access.log").exists)
        await asyncio.sleep(0.5)  # until the other worker has opened it, too
        for _ in range(20):
            await get(sidecar.port, "/after")

        assert len(await sidecar.access_log(lines=20)) == 20


async def test_lines_of_several_workers_in_one_pipe_stay_whole() -> None:
    """Each writes more at once than the pipe holds, and the reader comes late."""
    server = {"access_log": "stdout", "workers": 2}
    async with (
        ScriptedUpstream(keep_bodies=False) as upstream,
        PipedSidecar(policies(upstream.url, server=server)) as sidecar,
    ):
        await until_ready(sidecar, 2)
        await asyncio.gather(*(_ask_often(sidecar.port, 60) for _ in range(10)))
        reading = asyncio.create_task(asyncio.to_thread(sidecar.read_to_the_end))
        assert await sidecar.stop() == 0
        lines = (await reading).splitlines()

    assert len(lines) == 600
    assert {json.loads(line)["route"] for line in lines} == {"everything"}


class PipedSidecar(Sidecar):
    """Its stdout is a pipe."""

    def start(self) -> None:
        command = [sys.executable, "-m", "proxy", "serve", "--policies", str(self.policies_file)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def read_to_the_end(self) -> bytes:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            return pipe.read()


async def _ask_often(port: int, times: int) -> None:
    async with RawClient(port) as client:
        for _ in range(times):
            assert (await client.request("GET", "/" + "x" * 1500)).status == 200
