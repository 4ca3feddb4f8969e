"""What this process is made of, for /version and proxy_build_info."""

import platform
import sys

from proxy import __version__


def build_info() -> dict[str, str]:
    """Versions by name; empty for a package that this process has not loaded."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "aiohttp": _loaded_version("aiohttp"),
        "uvloop": _loaded_version("uvloop"),
    }


def _loaded_version(package: str) -> str:
    return getattr(sys.modules.get(package), "__version__", "")
