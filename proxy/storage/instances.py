"""How many instances share this Redis: each says every two seconds that it is there."""

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from proxy.storage.errors import StoreError
from proxy.storage.script import Script, load_script

INTERVAL: Final = 2.0
"""Seconds between two heartbeats."""
EXPIRY: Final = 10.0
"""Seconds, by Redis's own clock, for which a heartbeat counts."""
_MEMORY: Final = int(EXPIRY / INTERVAL)

_INSTANCES: Final = load_script("instances")

Run = Callable[[Script, Sequence[bytes], Sequence[bytes | int | str]], Awaitable[Any]]
"""`Redis.run`."""


class Instances:
    """Registers this instance, called `name`, in the sorted set `key`; `known` is how many there are at least."""

    def __init__(self, run: Run, key: bytes, name: bytes, known: int = 1) -> None:
        self._run = run
        self._keys = (key,)
        self._name = name
        self._recent = deque([known], maxlen=_MEMORY)

    @property
    def count(self) -> int:
        """The largest of the last five counts; while Redis is gone, what it was before, or what was known without it.

        Not the very last: a Redis that has just come back empty has not heard of the others yet.
        """
        return max(self._recent)

    async def beat(self) -> None:
        """Say that this instance is there, and count. Raises StoreError."""
        count = await self._run(_INSTANCES, self._keys, (self._name, round(EXPIRY * 1000)))
        if not isinstance(count, int):
            raise StoreError("protocol", "the answer is not that of the script")
        self._recent.append(max(count, 1))

    async def leave(self) -> None:
        """Say that it goes. Failures do not matter: the others notice in ten seconds."""
        with contextlib.suppress(StoreError):
            await self._run(_INSTANCES, self._keys, (self._name, 0))
