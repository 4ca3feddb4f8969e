"""`tidegate purge`: asks the running instance that a policies file describes, over its admin listener."""

import http.client
import json
import socket
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from proxy.config.addresses import WILDCARDS, ListenAddress
from proxy.config.model import Config

TIMEOUT: Final = 10.0
"""Seconds for the answer."""
_OK: Final = 200
_MAX_ANSWER: Final = 16 * 1024 * 1024


class PurgeFailed(Exception):
    """Nothing was purged as far as is known; the message says why."""


def purge(config: Config, wishes: Sequence[tuple[str, str]]) -> tuple[list[str], bool]:
    """What was purged, in lines, and whether everybody who shares the cache has taken it. Raises PurgeFailed.

    `wishes` are the parameters of `POST /purge`.
    """
    admin = config.server.admin
    if admin is None:
        raise PurgeFailed("there is no admin listener: `server.admin` is off")
    headers = {} if admin.token is None else {"Authorization": f"Bearer {admin.token.reveal()}"}
    status, answer = _ask(admin.listen, f"/purge?{urlencode(wishes)}", headers)
    if status != _OK:
        raise PurgeFailed(f"{admin.listen} has refused with {status}: {answer.get('detail') or answer.get('title')}")
    return [f"purged ({answer['level']}): {tag}" for tag in answer["tags"]], bool(answer["complete"])


def _ask(address: ListenAddress, target: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    if not address.path and not address.port:
        raise PurgeFailed("the port of the admin listener is not known: `server.admin` says 0")
    connection = _connection(address)
    try:
        connection.request("POST", target, headers=headers)
        response = connection.getresponse()
        body = response.read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise PurgeFailed(f"no answer from {address}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise PurgeFailed(f"what answers at {address} is not Tidegate")
    return response.status, answer


def _connection(address: ListenAddress) -> http.client.HTTPConnection:
    if address.path:
        return _UnixConnection(address.path)
    own = "::1" if address.host == "::" else "127.0.0.1"
    return http.client.HTTPConnection(own if address.host in WILDCARDS else address.host, address.port, timeout=TIMEOUT)


class _UnixConnection(http.client.HTTPConnection):
    """To a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)
