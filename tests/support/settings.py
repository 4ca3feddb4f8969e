"""Policies files for running instances: a short way to write one, and the settings that every instance needs."""

import json
import socket
from pathlib import Path
from random import SystemRandom
from typing import Any

import yaml

_PORTS = range(12_000, 32_000)
"""Below the kernel's ephemeral ports, so that no outgoing connection takes one in the meantime."""


def policies(
    url: str,
    *,
    server: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
    routes: list[dict[str, Any]] | None = None,
    defaults: dict[str, Any] | None = None,
) -> str:
    """A file with one upstream `api` at `url` and, unless `routes` are given, the route `everything`.

    `options` belong to the upstream, `route` to that one route.
    """
    file = {
        "server": server or {},
        "upstreams": {"api": {"url": url, **(options or {})}},
        "defaults": defaults or {},
        "routes": routes or [{"name": "everything", "match": "* /*", **(route or {})}],
    }
    return json.dumps({key: value for key, value in file.items() if value})


def complete(text: str, folder: Path, *, port: int = 0, admin_port: int = 0) -> str:
    """`text` with listeners on loopback and an access log in `folder`, where it does not name its own."""
    file = yaml.safe_load(text)
    listeners = {"listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin_port}"}
    file["server"] = {**listeners, "access_log": str(folder / "access.log"), **file.get("server", {})}
    return json.dumps(file)


def free_port() -> int:
    """A port that nobody listens on, for a process that must be told one."""
    while True:
        port = SystemRandom().choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
