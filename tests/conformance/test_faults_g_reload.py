"""Reloads under load: nothing is lost, nothing is mixed, nothing is left behind (fault G03)."""

import asyncio
import json
import os
from collections import Counter
from typing import Any

import pytest

from tests.support.aftermath import assert_problem, assert_unharmed, until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, fetch, get
from tests.support.leaks import open_fds
from tests.support.load import run_mix
from tests.support.messages import Response
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.steps import Gate, delay, echo, hang, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

RELOADS = int(os.environ.get("TIDEGATE_RELOADS", "20"))
"""The catalogue's figure is 100."""
REFUSED = "reload refused, the configuration stays as it was"
INVALID = '{"upstreams": {"api": {"url": "ftp://x", "colour": 1}}, "routes": []}'


def version(url: str, number: int, **upstream: Any) -> str:
    """A configuration that shows its number to the upstream and to the client."""
    mark = {"set": {"X-Version": str(number)}}
    return policies(url, options=upstream, route={"headers": {"request": mark, "response": mark}})


async def reload(app: RunningApp | Sidecar) -> Response:
    return await fetch(app.admin_port, "POST", "/reload")


async def test_g03_reloads_at_load_lose_nothing_and_each_request_sees_one_configuration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ScriptedUpstream() as upstream, running_app(version(upstream.url, 0)) as app:
        upstream.on("*", delay(0.003), echo())
        await assert_unharmed(app)
        tasks, fds = len(asyncio.all_tasks()), open_fds()
        outcomes: Counter[str] = Counter()
        stop = asyncio.Event()
        clients = [asyncio.ensure_future(_keep_comparing(app.port, stop, outcomes)) for _ in range(6)]
        for number in range(1, RELOADS + 1):
            app.write_exactly(INVALID) if number % 2 else app.write_policies(version(upstream.url, number))
            answer = await reload(app)
            assert answer.status == (422 if number % 2 else 200)
            await asyncio.sleep(0.03)
        stop.set()
        await asyncio.gather(*clients)

        assert outcomes["wrong"] == 0, outcomes
        assert outcomes["right"] > RELOADS
        assert await app.metric("proxy_config_reloads_total", result="success") >= RELOADS // 2
        assert await app.metric("proxy_config_reloads_total", result="failure") >= RELOADS // 2
        assert (await get(app.port, "/")).header("X-Version") == str(RELOADS)
        await wait_at_rest(app)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 8)
        await eventually(lambda: open_fds() <= fds + 8)
        assert len({request.connection for request in upstream.requests}) <= 10, "unchanged upstreams keep theirs"
        assert {record.getMessage() for record in caplog.records if record.levelname == "ERROR"} == {REFUSED}
        caplog.clear()


async def _keep_comparing(port: int, stop: asyncio.Event, outcomes: Counter[str]) -> None:
    async with RawClient(port) as client:
        while not stop.is_set():
            answer = await client.request("GET", "/")
            fields = {name.lower(): value for name, value in answer.json()["headers"]}
            same = answer.status == 200 and fields["x-version"] == answer.header("X-Version")
            outcomes["right" if same else "wrong"] += 1


async def test_g03_reloads_by_signal_under_a_mixed_load_lose_nothing() -> None:
    async with ScriptedUpstream(keep_bodies=False) as upstream, Sidecar(policies(upstream.url)) as sidecar:
        load = asyncio.ensure_future(run_mix(sidecar.port, seconds=3, rps=100, seed=3))
        for number in range(10):
            sidecar.write_policies(version(upstream.url, number, max_connections=50 + number % 2))
            answer = await reload(sidecar)
            assert answer.status in (200, 409), answer.body
            await asyncio.sleep(0.2)
        report = (await load).reconcile(upstream.requests)

    assert not report.violations, report
    assert report.errors == 0, report


async def test_g03_refused_file_is_explained_and_changes_nothing() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(version(upstream.url, 1)) as sidecar:
        sidecar.write_exactly(INVALID)
        answer = await reload(sidecar)

        assert answer.status == 422
        for problem in ("colour", "ftp"):
            assert problem in answer.json()["detail"]
        assert (await get(sidecar.port, "/")).header("X-Version") == "1"
        assert await sidecar.metric("proxy_config_reloads_total", result="failure") >= 1
        await eventually(lambda: REFUSED in sidecar.stderr)


async def test_g03_changed_file_and_swapped_symlink_are_noticed() -> None:
    """A ConfigMap is mounted as a symlink to `..data/policies.yaml`, and `..data` is swapped."""
    async with ScriptedUpstream() as upstream, Sidecar(version(upstream.url, 1)) as sidecar:
        complete = json.loads(sidecar.policies_file.read_text())
        for number in (1, 2):
            folder = sidecar.folder / f"..{number}"
            folder.mkdir()
            mark = {"set": {"X-Version": str(number)}}
            complete["routes"][0]["headers"] = {"request": mark, "response": mark}
            (folder / "policies.yaml").write_text(json.dumps(complete))
        data = sidecar.folder / "..data"
        data.symlink_to("..1")
        sidecar.policies_file.unlink()
        sidecar.policies_file.symlink_to("..data/policies.yaml")

        draft = sidecar.folder / "..data_tmp"
        draft.symlink_to("..2")
        draft.replace(data)
        async with asyncio.timeout(20):
            while (await get(sidecar.port, "/")).header("X-Version") != "2":  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)


async def test_g03_changed_timeout_takes_effect_and_what_is_under_way_keeps_its_own() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream:
        upstream.on("/before", gate, reply(200))
        upstream.on("/after", hang())
        async with running_app(policies(upstream.url, route={"timeout": "30s"})) as app:
            before = asyncio.ensure_future(get(app.port, "/before"))
            await upstream.wait_for_requests(1)
            app.write_policies(policies(upstream.url, route={"timeout": "200ms"}))
            assert (await reload(app)).status == 200

            assert_problem(await get(app.port, "/after"), 504, "http_response_timeout")
            gate.open()
            assert (await before).status == 200


async def test_g03_connections_of_a_removed_upstream_close_once_they_have_served() -> None:
    gate = Gate()
    async with ScriptedUpstream() as old, ScriptedUpstream() as new, running_app(policies(old.url)) as app:
        old.on("/busy", gate, reply(200, body=b"old"))
        busy = asyncio.ensure_future(get(app.port, "/busy"))
        await old.wait_for_requests(1)
        assert (await get(app.port, "/idle")).status == 200
        app.write_policies(policies(new.url))
        assert (await reload(app)).status == 200

        assert (await get(app.port, "/")).status == 200
        assert new.hits("/") == 1
        await old.wait_closed(2)
        assert old.open_connections == 1
        gate.open()
        assert (await busy).body == b"old"
        await old.wait_closed(1)


async def test_g03_access_log_moves_to_its_new_file_and_loses_no_line() -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        upstream.on("/across", gate, reply(200))
        across = asyncio.ensure_future(get(app.port, "/across"))
        await upstream.wait_for_requests(1)
        assert (await get(app.port, "/before")).status == 200
        target = app.folder / "other.log"
        app.write_policies(policies(upstream.url, server={"access_log": str(target)}))
        assert (await reload(app)).status == 200
        assert (await get(app.port, "/after")).status == 200
        gate.open()
        assert (await across).status == 200

        await eventually(lambda: "/after" in target.read_text())
        await eventually(lambda: "/across" in target.read_text() + (app.folder / "access.log").read_text())
        assert "/before" in (app.folder / "access.log").read_text()
        assert await app.metric("proxy_access_log_dropped_total") == 0


async def test_g03_unchanged_file_changes_nothing() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        await get(app.port, "/")
        assert (await reload(app)).status == 200
        await get(app.port, "/")
        assert [request.connection for request in upstream.requests] == [1, 1]
        await until_metric(app, 1, "proxy_config_reloads_total", result="success")
