"""Notices that a file has new content."""

import asyncio
import hashlib
from pathlib import Path

_MAX_READ = (1 << 20) + 1
"""Bytes: beyond the largest file that the loader takes."""

_Stamp = tuple[int, int, int, int]


class FileWatcher:
    """Polls one file: the stat of what its path leads to each `interval` seconds, and the content when that moved.

    So it sees an edit in place, a rename over the file and the symlink swap of a mounted ConfigMap, ignores a touch,
    and waits when the file is gone for a moment. No thread, no inotify: the latter misses the swap.
    """

    def __init__(self, path: Path, *, interval: float = 1.0) -> None:
        """The content at this moment is the one that changes are told from."""
        self._path = path
        self._interval = interval
        self._stamp: _Stamp | None
        self._digest: bytes | None
        self.look()

    def look(self) -> None:
        """The content at this moment is the one that changes are told from: whoever reads it next has seen it."""
        self._stamp = self._read_stamp()
        self._digest = self._read_digest()

    async def changed(self) -> None:
        """Return once the content differs from that of the last return. May be cancelled at any time."""
        while not self._has_changed():  # noqa: ASYNC110 - a file sets no event
            await asyncio.sleep(self._interval)

    def _has_changed(self) -> bool:
        stamp = self._read_stamp()
        if stamp is None or stamp == self._stamp:
            return False
        digest = self._read_digest()
        if digest is None:
            return False
        # The stamp was taken before the content was read: a write in between shows at the next poll.
        self._stamp = stamp
        changed = digest != self._digest
        self._digest = digest
        return changed

    def _read_stamp(self) -> _Stamp | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _read_digest(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                return hashlib.sha256(file.read(_MAX_READ)).digest()
        except OSError:
            return None
