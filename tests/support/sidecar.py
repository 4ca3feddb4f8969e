"""Tidegate as its users run it: a child process, with signals, exit codes, memory and file descriptors."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.client import get
from tests.support.instance import Instance
from tests.support.settings import free_port
from tests.support.waiting import WITHIN, eventually

ROOT = Path(__file__).parents[2]
START_WITHIN = 30.0
"""Seconds for an interpreter to start and import on a machine that is busy with other tests."""


class Sidecar(Instance):
    """`async with Sidecar(policies(upstream.url)) as sidecar`: started and ready inside, stopped after it.

    `loop` is uvloop or asyncio; the default is that of the running test. `python` are options of the interpreter.
    """

    def __init__(
        self, policies: str, *, loop: str | None = None, env: dict[str, str] | None = None, python: tuple[str, ...] = ()
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="tidegate-")
        super().__init__(Path(self._temporary.name), free_port(), free_port())
        self.write_policies(policies)
        self.loop = loop
        self.env = env or {}
        self.python = python
        self.process: subprocess.Popen[bytes]

    async def __aenter__(self) -> Self:
        try:
            self.start()
            await self.wait_ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    # --- life ---

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        loop = self.loop or type(asyncio.get_running_loop()).__module__.partition(".")[0]
        command = [sys.executable, *self.python, "-m", "proxy", "serve", "--policies", str(self.policies_file)]
        with (self.folder / "stdout").open("wb") as stdout, (self.folder / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "TIDEGATE_LOOP": loop, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    async def wait_ready(self) -> None:
        """Wait until /readyz says 200; fails with the process's stderr when it ends before."""
        async with asyncio.timeout(START_WITHIN):
            while not await self.is_ready():
                if self.process.poll() is not None:
                    raise RuntimeError(f"ended with {self.process.returncode}: {self.stderr}")
                await asyncio.sleep(0.01)

    async def is_ready(self) -> bool:
        try:
            return (await get(self.admin_port, "/readyz")).status == 200
        except ConnectionError:
            return False

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def wait_exit(self, within: float = WITHIN) -> int:
        """The exit code, negative for a signal; raises TimeoutError."""
        await eventually(lambda: self.process.poll() is not None, within)
        return self.process.returncode

    async def stop(self, within: float = WITHIN) -> int:
        """SIGTERM, then the exit code."""
        self.signal(signal.SIGTERM)
        return await self.wait_exit(within)

    async def _end(self) -> None:
        if hasattr(self, "process") and self.process.poll() is None:
            try:
                await self.stop()
            finally:
                self.process.kill()
                self.process.wait()
        self._temporary.cleanup()

    # --- asking ---

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def rss(self) -> int:
        """Resident memory in bytes."""
        pages = (Path("/proc") / str(self.pid) / "statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def fds(self) -> int:
        """Number of open file descriptors."""
        return len(list((Path("/proc") / str(self.pid) / "fd").iterdir()))

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = (Path("/proc") / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
