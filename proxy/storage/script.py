"""Lua scripts: what instances do together is decided inside Redis, in one call and by one clock."""

from hashlib import sha1
from importlib.resources import files


class Script:
    """One script. `reads_only`: it is of use also while Redis takes no writes."""

    __slots__ = ("name", "reads_only", "sha", "text")

    def __init__(self, name: str, text: str, *, reads_only: bool = False) -> None:
        self.name = name
        """Becomes the `operation` label of the metrics."""
        self.text = text.encode()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()
        """What EVALSHA calls it by."""
        self.reads_only = reads_only

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


def load_script(name: str, *, reads_only: bool = False) -> Script:
    """The script in `scripts/NAME.lua`. Raises FileNotFoundError."""
    file = files("proxy.storage") / "scripts" / f"{name}.lua"
    return Script(name, file.read_text(encoding="utf-8"), reads_only=reads_only)
