"""Lines to a file, a pipe or a terminal from a thread of its own: whoever reads them can never hold up a request."""

import contextlib
import errno
import fcntl
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterator

_GATHER = 0.1
_CHUNK = 256 * 1024
_MAX_PENDING = 4 * 1024 * 1024
_WARN_INTERVAL = 10.0
_STANDARD_STREAMS = {"stdout": 1, "stderr": 2}
_LOCK_AGAIN = 0.01
_turns: dict[tuple[int, int], threading.Lock] = {}
"""By device and inode: stdout and stderr may be the same pipe."""

log = logging.getLogger("tidegate.lines")


class LineWriter:
    """Gathers lines for a tenth of a second and writes them in one go.

    Up to `max_pending` bytes wait; when the reader has stopped or the disk is full, further lines are dropped and
    counted. `target` is `stdout`, `stderr` or a file's path, appended to; OSError when it cannot be opened.
    `warns` is false for the writer of the log itself, which must not report its own trouble to itself.
    """

    def __init__(self, target: str, *, max_pending: int = _MAX_PENDING, warns: bool = True) -> None:
        self._output = _Output(target)
        self._max_pending = max_pending
        self._next_warning = 0.0 if warns else float("inf")
        self._lines: deque[bytes] = deque()
        # Each of these counters is changed by one thread only, so none needs a lock.
        self._accepted_bytes = 0
        self._refused_lines = 0
        self._taken_bytes = 0
        self._failed_lines = 0
        self._must_reopen = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lines to {target}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        return self._refused_lines + self._failed_lines

    def write(self, line: bytes) -> None:
        """Take one line, its newline included. Called from one thread at a time; never waits and never raises."""
        if self._accepted_bytes - self._taken_bytes + len(line) > self._max_pending:
            self._refused_lines += 1
            self._warn("lines come faster than they are taken")
            return
        self._accepted_bytes += len(line)
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def reopen(self) -> None:
        """Open the file anew before the next write, because the old one has been rotated away."""
        self._must_reopen = True
        self._wake.set()

    def close(self, timeout: float = 1.0) -> None:
        """Write what is pending, for at most `timeout` seconds; the rest, and what comes later, counts as dropped."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)
        self._max_pending = -1
        self._next_warning = float("inf")
        self._refused_lines += len(self._lines)
        self._lines.clear()

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait()
            closing = self._closing.wait(_GATHER)
            self._wake.clear()
            self._reopen_if_asked()
            while self._lines:
                self._write_chunk()
        self._output.close()

    def _reopen_if_asked(self) -> None:
        if self._must_reopen:
            self._must_reopen = False
            try:
                self._output.reopen()
            except OSError as error:
                self._warn(f"cannot reopen the file: {error.strerror}")

    def _write_chunk(self) -> None:
        chunk: list[bytes] = []
        size = 0
        while self._lines and size < _CHUNK:
            line = self._lines.popleft()
            chunk.append(line)
            size += len(line)
        try:
            self._output.write(b"".join(chunk))
        except OSError as error:
            self._failed_lines += len(chunk)
            self._warn(f"cannot write: {error.strerror}")
        # Only now: bytes on their way to a reader who has stopped count as pending, too.
        self._taken_bytes += size

    def _warn(self, trouble: str) -> None:
        now = time.monotonic()
        if now >= self._next_warning:
            self._next_warning = now + _WARN_INTERVAL
            log.warning("log lines are being dropped: %s", trouble, extra={"dropped": self.dropped})


class _Output:
    """A file descriptor that bytes are appended to, used by one thread."""

    def __init__(self, target: str) -> None:
        self._path = None if target in _STANDARD_STREAMS else target
        self._fd = _STANDARD_STREAMS[target] if self._path is None else _open(self._path)
        self._torn = False

    def reopen(self) -> None:
        """Swap to a newly opened file; on OSError the old one stays. A standard stream is left alone."""
        if self._path is not None:
            fd = _open(self._path)
            os.close(self._fd)
            self._fd, self._torn = fd, False

    def write(self, data: bytes) -> None:
        """Write all of it, however long that takes. Raises OSError; the next write then ends a half-written line."""
        if self._path is None:
            with _turn(self._fd):
                self._write(data)
        else:
            self._write(data)  # what is appended to a file stays in one piece

    def _write(self, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        rest = memoryview(data)
        while rest:
            try:
                written = os.write(self._fd, rest)
            except BlockingIOError:
                self._wait_writable()
                continue
            self._torn = rest[written - 1] != ord("\n")
            rest = rest[written:]

    def close(self) -> None:
        """Close the file; the standard streams stay open."""
        if self._path is not None:
            os.close(self._fd)

    def _wait_writable(self) -> None:
        # Whoever shares our stdout may have made it non-blocking.
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll()


@contextlib.contextmanager
def _turn(fd: int) -> Iterator[None]:
    """No other thread, and no other process of ours, writes to the same stream: a pipe would mix up their lines."""
    stat = os.fstat(fd)
    with _turns.setdefault((stat.st_dev, stat.st_ino), threading.Lock()):
        is_locked = _lock(fd)
        try:
            yield
        finally:
            if is_locked:
                fcntl.lockf(fd, fcntl.LOCK_UN)


def _lock(fd: int) -> bool:
    """Whether the stream can be locked against other processes; waits as long as it takes."""
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno != errno.EDEADLK:
                return False
            # Seen by the kernel where two processes wait for each other's streams, though each with another thread.
            time.sleep(_LOCK_AGAIN)
        else:
            return True


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
