"""What the policies remember from request to request. It outlives configurations: a reload adapts it, never resets it.

State belongs to a kind of policy, a name (of the route, or of the shared entry) and a mode: shadow has its own.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, cast


class State(Protocol):
    """The memory of one policy."""

    def reconfigure(self, config: Any, now: float) -> str:
        """Go on under another configuration. What was kept and what was reset, for people; empty: nothing changed."""
        ...


S = TypeVar("S", bound=State)
Key = tuple[str, str, str]
"""Kind, name and mode."""


class StateRegistry:
    """All state, by kind, name and mode. One `build` for each configuration; what it does not ask for is dropped."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._states: dict[Key, State] = {}
        self._used: dict[Key, State] = {}
        self._changes: list[str] = []

    def begin(self) -> None:
        """A configuration is being built."""
        self._used = {}
        self._changes = []

    def get(self, kind: str, name: str, mode: str, config: Any, make: Callable[[], S]) -> S:
        """The state of that kind and name, adapted to `config`; made when there is none."""
        key = (kind, name, mode)
        if key not in self._used:
            self._used[key] = self._adapted(key, config, make)
        return cast("S", self._used[key])  # one kind has one class

    def _adapted(self, key: Key, config: Any, make: Callable[[], State]) -> State:
        state = self._states.get(key)
        if state is None:
            state = make()
            if self._states:
                self._changes.append(f"{_label(key)}: new")
        elif change := state.reconfigure(config, self._clock()):
            self._changes.append(f"{_label(key)}: {change}")
        return state

    def commit(self) -> list[str]:
        """The configuration is in force: forget what it does not use. All changes, a line each."""
        gone = self._states.keys() - self._used.keys()
        self._changes += [f"{_label(key)}: dropped" for key in sorted(gone)]
        self._states = self._used
        return self._changes

    def of(self, kind: str) -> Iterator[tuple[str, str, Any]]:
        """Name, mode and state of everything of one kind that is in force."""
        for (each, name, mode), state in self._states.items():
            if each == kind:
                yield name, mode, state


def _label(key: Key) -> str:
    """The state's name in the report of a reload."""
    kind, name, mode = key
    return f"{kind} {name}" + (" (shadow)" if mode == "shadow" else "")
