"""`${VAR}` and `${VAR:-default}` inside the scalars of the file."""

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}$]*))?\}|(?P<broken>\{))")


class Expanded(str):
    """Text that came, at least in part, from the environment: a field may coerce it, and nobody prints it."""

    __slots__ = ()


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace the references in `text`; `$$` is a dollar, and a default also stands in for an empty variable.

    Raises ValueError for an unknown variable and for a malformed reference.
    """
    if "$" not in text:
        return text
    expanded = _REFERENCE.sub(lambda match: _value(match, env), text)
    return Expanded(expanded) if any(match["name"] for match in _REFERENCE.finditer(text)) else expanded


def _value(match: re.Match[str], env: Mapping[str, str]) -> str:
    name, default = match["name"], match["default"]
    if match["broken"]:
        raise ValueError("malformed ${…}: write ${NAME} or ${NAME:-default}, and $$ for a dollar sign")
    if name is None:
        return "$"
    value = env.get(name, "")
    if value or (default is None and name in env):
        return value
    if default is None:
        raise ValueError(f"the environment has no variable {name}: set it, or write ${{{name}:-default}}")
    return str(default)
