"""Values with a name: timeout presets and profiles."""

from typing import Any, Literal

ProfileName = Literal["development", "production"]

TimeoutPreset = Literal["health", "auth", "properties", "search", "ml_training"]

TIMEOUT_PRESETS: dict[str, str] = {
    "health": "1s",
    "auth": "5s",
    "properties": "10s",
    "search": "15s",
    "ml_training": "60s",
}
"""What `timeout: NAME` sets as the total."""

PROFILES: dict[ProfileName, dict[str, Any]] = {
    "development": {"slow_request": 1.0, "drain": 2.0},
    "production": {},
}
"""What a profile changes in the defaults of `server`; seconds. Production starts from the built-in defaults."""
