"""The service and the sidecar as child processes, for the demo and for load tests."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Process = subprocess.Popen[str]

START_SECONDS = 30.0
STOP_SECONDS = 5.0


class StartFailed(Exception):
    """A process ended, or was not ready in time; its text is for people."""


@contextmanager
def service(port: int = 0) -> Iterator[str]:
    """The property service; the value is its URL. Raises StartFailed."""
    command = [sys.executable, "-m", "upstream_stub", "--port", str(port)]
    with _running(command, stdout=subprocess.PIPE) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise StartFailed("the property service did not start")
        yield line.split()[-1]


@contextmanager
def sidecar(policies: Path, upstream: str, output: int | None = None) -> Iterator[Process]:
    """Tidegate by `policies`, in front of `upstream`; its access log goes to `output`, here by default."""
    command = [sys.executable, "-m", "proxy", "serve", "--policies", str(policies)]
    with _running(command, stdout=output, environment={"UPSTREAM_URL": upstream}) as process:
        yield process


def wait_until_ready(process: Process, host: str, port: int) -> None:
    """Returns when the sidecar answers GET /readyz with 200. Raises StartFailed."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(host, port, timeout=1.0)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    raise StartFailed("the sidecar did not get ready")


def wait_for_any() -> None:
    """Returns when one of the children has ended."""
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)


@contextmanager
def _running(command: list[str], stdout: int | None, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    # a group of its own: Ctrl-C reaches this process alone, which then stops its children one after the other
    process = subprocess.Popen(  # noqa: S603 - the command is ours
        command, stdout=stdout, text=True, env={**os.environ, **(environment or {})}, process_group=0
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
