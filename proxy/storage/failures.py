"""What redis-py raises, in the words of StoreError."""

import re
from typing import Final

from redis import exceptions

from proxy.storage.errors import StoreError


class NotConnected(Exception):
    """There is no connection, for the reason in its argument."""


FAILURES: Final = (StoreError, NotConnected, exceptions.RedisError, OSError)
"""All that a call of Redis ends with; our own time limit raises TimeoutError, which is an OSError."""

_CODES: Final = {
    "BUSY": "busy",
    "CLUSTERDOWN": "clusterdown",
    "LOADING": "loading",
    "MASTERDOWN": "masterdown",
    "MISCONF": "misconf",
    "NOAUTH": "noauth",
    "NOPERM": "noperm",
    "NOREPLICAS": "noreplicas",
    "OOM": "oom",
    "READONLY": "readonly",
    "TRYAGAIN": "clusterdown",
    "WRONGPASS": "noauth",
    "WRONGTYPE": "wrongtype",
}
_CODE_WITHIN: Final = re.compile("-(" + "|".join(_CODES) + r")\b")
"""Redis 6 wraps the error of a command in a script into one of its own."""


def store_error(error: BaseException) -> StoreError:
    """The StoreError for one of FAILURES."""
    if isinstance(error, StoreError):
        return error
    return StoreError(_outcome(error), str(error))


def _outcome(error: BaseException) -> str:
    match error:
        case NotConnected(args=(cause,)):
            outcome = _outcome(cause)
            return "refused" if outcome in ("lost", "error") else outcome
        case TimeoutError() | exceptions.TimeoutError():
            return "timeout"
        case exceptions.AuthenticationError():
            return "noauth"
        case exceptions.InvalidResponse():
            return "protocol"
    text = str(error)
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    if code in _CODES:
        return _CODES[code]
    if "max number of clients" in text:
        return "maxclients"
    if "previous master is now a slave" in text:  # redis-py's own words where sentinels are asked
        return "readonly"
    if isinstance(error, exceptions.ResponseError):
        within = _CODE_WITHIN.search(text)
        return _CODES[within[1]] if within else "error"
    return "lost"
