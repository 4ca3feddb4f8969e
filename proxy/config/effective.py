"""The configuration in force, in the spelling of the file, for people to read."""

from typing import Any

from proxy.config.model import Config, RouteConfig
from proxy.config.policies import Policy
from proxy.config.policy_types import format_ratio


def effective(config: Config) -> dict[str, Any]:
    """Plain JSON data: durations and sizes with their units, what is off as `off`, secrets masked."""
    values: dict[str, Any] = _present(config.model_dump(mode="json", by_alias=True))
    return values


def _present(value: Any) -> Any:
    """`value` without the settings that are not there."""
    if isinstance(value, dict):
        # The body of an answer that the user makes up is the user's, nulls and all.
        return {key: inner if key == "body" else _present(inner) for key, inner in value.items() if inner is not None}
    return [_present(inner) for inner in value] if isinstance(value, list) else value


def policies_of(route: RouteConfig) -> list[str]:
    """The route's policies but for its timeouts, a word or two each."""
    present: list[tuple[str, Policy]] = [(f"rate_limit {limit.rate}", limit) for limit in route.rate_limit]
    for name in ("fallback", "invalidate", "cache", "retry", "breaker", "bulkhead"):
        policy = getattr(route, name)
        if policy is not None:
            present.append((name, policy))
    return [name + extent_of(policy) for name, policy in present]


def extent_of(policy: Policy) -> str:
    """How far the policy is in force; nothing when it is so for everybody."""
    if policy.mode == "shadow":
        return " (shadow)"
    return "" if policy.enforce_percent == 1 else f" ({format_ratio(policy.enforce_percent)})"
