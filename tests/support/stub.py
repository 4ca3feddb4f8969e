"""The property service as a child process."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROCESS_WITHIN = 40.0
"""Seconds that a process gets to start or to end: interpreters start slowly on a busy machine."""


class Stub:
    """A running stub: its port, its process and what it wrote to stderr."""

    def __init__(self, process: subprocess.Popen[str], log: Path, port: int) -> None:
        self.process = process
        self.port = port
        self._log = log

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PROCESS_WITHIN)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")


@contextmanager
def running_stub(folder: Path, properties: int = 300) -> Iterator[Stub]:
    """A stub with a database of its own in `folder`; in the end it must stop cleanly and have met no error."""
    log = folder / "stub.log"
    with start_stub(folder, properties, log) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line, log.read_text(encoding="utf-8")
        stub = Stub(process, log, int(line.rpartition(":")[2]))
        try:
            yield stub
            if process.poll() is None:
                assert stub.stop() == 0
            assert "Traceback" not in stub.log()
        finally:
            process.kill()


def start_stub(folder: Path, properties: int, log: Path, *arguments: str) -> subprocess.Popen[str]:
    """The process alone, perhaps not listening yet; its first line of output is the address."""
    database = f"sqlite+aiosqlite:///{folder / 'properties.db'}"
    options = ["--port", "0", "--database", database, "--properties", str(properties), *arguments]
    with log.open("a", encoding="utf-8") as errors:
        command = [sys.executable, "-m", "upstream_stub", *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
