"""Several workers in a test: the supervisor inside the test's own process, and questions about its workers."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from proxy.workers.supervisor import Supervisor
from proxy.workers.timing import USUAL, Timing
from tests.support.client import get
from tests.support.instance import Instance
from tests.support.settings import complete
from tests.support.sidecar import START_WITHIN
from tests.support.waiting import WITHIN


class RunningSupervisor(Instance):
    """An instance whose supervisor can be looked at; its workers are processes of their own."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        super().__init__(folder, supervisor.port, supervisor.admin_port)
        self.supervisor = supervisor

    def _completed(self, text: str) -> str:
        return complete(text, self.folder)


@contextlib.asynccontextmanager
async def running_supervisor(
    policies: str, workers: int = 2, timing: Timing = USUAL
) -> AsyncIterator[RunningSupervisor]:
    """Start it with this policies.yaml, wait until every worker is ready, and stop it in the end."""
    with tempfile.TemporaryDirectory(prefix="tidegate-") as name:
        folder = Path(name)
        file = folder / "policies.yaml"
        file.write_text(complete(policies, folder))
        supervisor = Supervisor(file, workers, timing)
        await supervisor.start()
        try:
            running = RunningSupervisor(supervisor, folder)
            await until_ready(running, workers)
            yield running
        finally:
            await supervisor.stop()


async def workers_of(instance: Instance) -> list[dict[str, Any]]:
    """What /readyz says about each worker that there is."""
    workers: list[dict[str, Any]] = (await get(instance.admin_port, "/readyz")).json()["workers"]
    return workers


async def until_ready(instance: Instance, count: int, without: int = 0) -> list[int]:
    """Wait for so many ready workers, none of them the process `without`; their process ids, by worker."""
    async with asyncio.timeout(START_WITHIN):
        while True:
            ready = [worker["pid"] for worker in await workers_of(instance) if worker["state"] == "ready"]
            if len(ready) == count and without not in ready:
                return ready
            await asyncio.sleep(0.02)


async def until_not_ready(instance: Instance) -> dict[str, Any]:
    """Wait until /readyz says 503; what it says."""
    async with asyncio.timeout(WITHIN):
        while True:
            answer = await get(instance.admin_port, "/readyz")
            if answer.status == 503:
                readiness: dict[str, Any] = answer.json()
                return readiness
            await asyncio.sleep(0.02)
