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

RetryPreset = Literal["fast", "standard", "aggressive"]

RETRY_PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"max_attempts": 4, "base_delay": 0.1, "max_delay": 1.0},
    "standard": {"max_attempts": 6, "base_delay": 0.5, "max_delay": 10.0},
    "aggressive": {"max_attempts": 11, "base_delay": 0.2, "max_delay": 30.0},
}
"""What `retry: NAME` sets; seconds."""

BULKHEAD_PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"max_concurrent": 20, "max_queued": 50},
    "normal": {"max_concurrent": 10, "max_queued": 100},
    "slow": {"max_concurrent": 5, "max_queued": 200},
    "external_api": {"max_concurrent": 8, "max_queued": 150},
    "database": {"max_concurrent": 15, "max_queued": 300},
    "ml_operations": {"max_concurrent": 2, "max_queued": 50},
}
"""What `bulkhead: NAME` sets for a pool of the route's own."""

CachePreset = Literal[
    "search", "trending", "suburbs", "alerts", "details", "listings", "aggregates", "price_history", "static"
]

CACHE_PRESETS: dict[str, dict[str, Any]] = {
    "search": {"ttl": 300.0},
    "trending": {"ttl": 300.0},
    "suburbs": {"ttl": 600.0},
    "alerts": {"ttl": 1800.0},
    "details": {"ttl": 3600.0},
    "listings": {"ttl": 3600.0},
    "aggregates": {"ttl": 3600.0},
    "price_history": {"ttl": 86_400.0},
    "static": {"ttl": 86_400.0},
}
"""What `cache: NAME` sets; seconds."""

BREAKER_PROFILES: dict[ProfileName, dict[str, Any]] = {
    "development": {"consecutive_failures": 10, "break_duration": 120.0},
    "production": {"consecutive_failures": 3, "break_duration": 30.0},
}
"""What a profile changes in the defaults of every breaker; seconds."""

PROFILES: dict[ProfileName, dict[str, Any]] = {
    "development": {"slow_request": 1.0, "drain": 2.0},
    "production": {},
}
"""What a profile changes in the defaults of `server`; seconds. Production starts from the built-in defaults."""
