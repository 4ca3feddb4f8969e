"""Loads policies.yaml with everything that has a say in whether it can be used: the one way in for all commands."""

import os
from collections.abc import Mapping
from pathlib import Path

from proxy import routing
from proxy.config.loader import Loaded, load_policies


def load(path: Path, env: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in the file at `path`; `env` is the process's own when left out.

    Raises ConfigError with every problem found.
    """
    return load_policies(path, os.environ if env is None else env, routing)
