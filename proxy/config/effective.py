"""The configuration in force, in the spelling of the file, for people to read."""

from typing import Any

from proxy.config.model import Config


def effective(config: Config) -> dict[str, Any]:
    """Plain JSON data: durations and sizes with their units, what is off as `off`, secrets masked."""
    values: dict[str, Any] = _present(config.model_dump(mode="json"))
    return values


def _present(value: Any) -> Any:
    """`value` without the settings that are not there."""
    if isinstance(value, dict):
        # The body of an answer that the user makes up is the user's, nulls and all.
        return {key: inner if key == "body" else _present(inner) for key, inner in value.items() if inner is not None}
    return [_present(inner) for inner in value] if isinstance(value, list) else value
