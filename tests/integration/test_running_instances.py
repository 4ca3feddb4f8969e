"""Both ways of running Tidegate in a test: in this process, and as a child."""

import signal

import pytest

from tests.support.app import running_app
from tests.support.client import get
from tests.support.load import run_mix
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.both_loops


async def test_app_in_process_proxies_counts_and_logs() -> None:
    async with ScriptedUpstream() as upstream, running_app(policies(upstream.url)) as app:
        answer = await get(app.port, "/a?b=1")

        assert answer.json()["target"] == "/a?b=1"
        assert upstream.hits("/a") == 1
        assert await app.metric("proxy_requests_total", route="everything") == 1
        (line,) = await app.access_log()
        assert (line["route"], line["status"]) == ("everything", 200)


async def test_child_process_proxies_and_ends_with_0_on_sigterm() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url)) as sidecar:
        assert (await get(sidecar.port, "/")).status == 200
        assert sidecar.rss() > 1 << 20
        assert sidecar.fds() > 3

        assert await sidecar.stop() == 0


async def test_child_process_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="upstreams"):
        async with Sidecar("routes: []"):
            pass


async def test_child_process_can_be_killed() -> None:
    async with ScriptedUpstream() as upstream, Sidecar(policies(upstream.url)) as sidecar:
        sidecar.signal(signal.SIGKILL)

        assert await sidecar.wait_exit() == -signal.SIGKILL


async def test_short_mix_through_the_child_process_is_clean() -> None:
    async with ScriptedUpstream(keep_bodies=False) as upstream, Sidecar(policies(upstream.url)) as sidecar:
        ledger = await run_mix(sidecar.port, seconds=2, rps=150, seed=7)
        report = ledger.reconcile(upstream.requests)

    assert not report.violations, report
    assert report.errors == 0, report
