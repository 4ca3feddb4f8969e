"""Child processes: started on one core, measured through /proc, always stopped."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parent.parent
TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds in a unit of utime and stime."""


class BenchError(Exception):
    """The measurement cannot be made or is void; the text says why."""


class Process:
    """A running command. As a context manager it is stopped at the end of the block."""

    def __init__(self, argv: Sequence[str], log: Path, core: int | None, env: Mapping[str, str] | None = None) -> None:
        self._name = argv[0]
        self._log = log
        with log.open("ab") as out:
            self._started = time.perf_counter()
            self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop the rest
                preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
            )
        self.pid = self._popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it: SIGTERM, after five seconds SIGKILL."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()

    def wait_ready(self, port: int, path: str, timeout: float = 10.0) -> float:
        """Wait for the first 200 to GET `path`; return the seconds since the start of the command.

        Raises BenchError after `timeout` seconds and when the command has ended.
        """
        give_up = time.perf_counter() + timeout
        while probe(port, path) != 200:
            if self._popen.poll() is not None:
                raise BenchError(f"{self._name} ended with {self._popen.returncode}:\n{self._tail()}")
            if time.perf_counter() > give_up:
                raise BenchError(f"no 200 from port {port}{path} within {timeout:g} s:\n{self._tail()}")
            time.sleep(0.001)
        return time.perf_counter() - self._started

    def cpu_seconds(self) -> float:
        """User and system time so far, of all threads. Every target is one process."""
        return cpu_seconds(Path(f"/proc/{self.pid}/stat").read_text())

    def rss(self) -> int:
        """Resident memory in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])


def cpu_seconds(stat: str) -> float:
    """utime + stime out of the text of /proc/PID/stat; the command's name in it may hold blanks and brackets."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def probe(port: int, path: str, *, method: str = "GET", body: bytes | None = None) -> int | None:
    """The status of one request on a connection of its own, None if there was no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return response.status


def get(port: int, path: str) -> str:
    """The body of the answer to one request on a connection of its own. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def cores() -> tuple[int | None, int | None]:
    """The core for the proxy and the core for the load and the origin; no pinning on a single core."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)
