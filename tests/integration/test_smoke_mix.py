"""S1: a mixed load with checked nonces. Nothing is crossed, lost, doubled or cut, and nothing fails."""

import os

import pytest

from tests.support.aftermath import until_metric, wait_at_rest
from tests.support.load import run_mix
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.upstream import ScriptedUpstream

SECONDS = float(os.environ.get("TIDEGATE_SMOKE_SECONDS", "8"))
"""The catalogue's figure is 60."""
RPS = float(os.environ.get("TIDEGATE_SMOKE_RPS", "300"))
SEED = int(os.environ.get("TIDEGATE_SMOKE_SEED", "1"))


@pytest.mark.timeout(SECONDS * 3 + 60)
async def test_s1_mixed_load_is_exact() -> None:
    async with ScriptedUpstream(keep_bodies=False) as upstream, Sidecar(policies(upstream.url)) as sidecar:
        rss, fds = sidecar.rss(), sidecar.fds()
        ledger = await run_mix(sidecar.port, seconds=SECONDS, rps=RPS, seed=SEED)
        report = ledger.reconcile(upstream.requests)

        assert not report.violations, report
        assert report.errors == 0, report
        assert report.outcomes["answered"] > 0.9 * SECONDS * RPS * 0.95
        assert upstream.malformed == [] or all(reason.startswith("unfinished head") for reason in upstream.malformed)
        await wait_at_rest(sidecar)
        await until_metric(sidecar, 0, "proxy_client_connections")
        assert sidecar.fds() <= fds + 64 + 2, "no more than the idle upstream connections"
        assert sidecar.rss() - rss < 60 << 20
        assert await sidecar.stop() == 0
        assert "Traceback" not in sidecar.stderr
