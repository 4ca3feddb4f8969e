"""Every metric family of Tidegate is declared here and nowhere else; docs/observability.md explains each to its reader.

Label values come from the configuration or from fixed words in the code, never from a client.
"""

from typing import Literal, NamedTuple


class Family(NamedTuple):
    """Declaration of one metric family."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


UNMATCHED = "unmatched"
"""The `route` label of requests that no route matches."""

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of every histogram."""

EXACT_STATUSES = (429, 499, 502, 503, 504)
"""Statuses that are told apart; all others are counted by class."""

STATUS_LABELS = {status: f"{status // 100}xx" for status in range(100, 600)} | {s: str(s) for s in EXACT_STATUSES}

TIMEOUT_KINDS = ("total", "attempt", "first_byte", "idle", "connect", "client")

# --- requests -------------------------------------------------------------------------------------------------------

REQUESTS = Family("proxy_requests_total", "counter", ("route", "status"), "Requests that have ended, by status.")
REQUEST_DURATION = Family(
    "proxy_request_duration_seconds", "histogram", ("route",), "From the complete request head to the last body byte."
)
REQUESTS_IN_FLIGHT = Family("proxy_requests_in_flight", "gauge", ("route",), "Requests that have not ended yet.")
REQUEST_BYTES = Family("proxy_request_bytes_total", "counter", ("route",), "Request body bytes from clients.")
RESPONSE_BYTES = Family("proxy_response_bytes_total", "counter", ("route",), "Response body bytes to clients.")
SLOW_REQUESTS = Family("proxy_slow_requests_total", "counter", ("route",), "Requests over the slow_request limit.")
ERRORS = Family(
    "proxy_errors_total",
    "counter",
    ("route", "source", "error"),
    "Requests that an error ended, by RFC 9209 type.",
)
TIMEOUTS = Family("proxy_timeouts_total", "counter", ("route", "kind"), "Requests that a time limit ended.")
POLICY_DECISIONS = Family(
    "proxy_policy_decisions_total", "counter", ("route", "policy", "mode", "decision"), "What the policies decided."
)

# --- policies -------------------------------------------------------------------------------------------------------

RETRIES = Family("proxy_retries_total", "counter", ("route", "cause"), "Attempts made again, by what had gone wrong.")
RETRY_BUDGET = Family("proxy_retry_budget_available", "gauge", ("route",), "Retries that the budget would allow now.")
RETRY_COOL_DOWN = Family(
    "proxy_retry_cool_down_seconds", "gauge", ("route",), "What is left of the time that an upstream has asked for."
)
BREAKER_STATE = Family("proxy_breaker_state", "gauge", ("breaker", "mode", "state"), "1 for its state, else 0.")
BREAKER_TRANSITIONS = Family(
    "proxy_breaker_transitions_total", "counter", ("breaker", "mode", "to", "reason"), "Changes of a breaker's state."
)
BULKHEAD_LIMIT = Family("proxy_bulkhead_limit", "gauge", ("bulkhead", "mode"), "Permits that there are.")
BULKHEAD_IN_USE = Family("proxy_bulkhead_in_use", "gauge", ("bulkhead", "mode"), "Permits that are held.")
BULKHEAD_QUEUED = Family("proxy_bulkhead_queued", "gauge", ("bulkhead", "mode"), "Exchanges that wait for a permit.")
BULKHEAD_WAIT = Family(
    "proxy_bulkhead_wait_seconds", "histogram", ("bulkhead",), "How long those waited that got a permit after a wait."
)
RATE_LIMIT_CLIENTS = Family("proxy_rate_limit_clients", "gauge", ("route", "mode"), "Clients with a count in memory.")
FALLBACKS = Family("proxy_fallbacks_total", "counter", ("route", "step"), "Failures answered by a fallback.")
SHED = Family("proxy_shed_total", "counter", ("criticality",), "Requests refused because the process was overloaded.")
SHED_LEVEL = Family("proxy_shed_level", "gauge", (), "How much is shed now, from 0 to 1.")

# --- cache ----------------------------------------------------------------------------------------------------------

CACHE_REQUESTS = Family(
    "proxy_cache_requests_total",
    "counter",
    ("route", "mode", "outcome"),
    "Requests by what the cache did: hit, stale, revalidated, miss or bypass.",
)
CACHE_BYPASSES = Family(
    "proxy_cache_bypasses_total", "counter", ("route", "reason"), "Requests that were not looked up, by reason."
)
CACHE_REFUSALS = Family(
    "proxy_cache_not_stored_total", "counter", ("route", "reason"), "Responses that were not stored, by reason."
)
CACHE_COLLAPSED = Family(
    "proxy_cache_collapsed_total", "counter", ("route",), "Requests answered by a fill that another one had begun."
)
CACHE_FILLS = Family(
    "proxy_cache_fills_total", "counter", ("route", "kind", "outcome"), "Requests of the cache to the upstream."
)
CACHE_FILL_DURATION = Family(
    "proxy_cache_fill_duration_seconds", "histogram", ("route",), "How long a fill took, to its last byte."
)
CACHE_HIT_RATIO = Family(
    "proxy_cache_hit_ratio", "gauge", ("route",), "Share of the last 1024 look-ups that were answered from the cache."
)
CACHE_SERVED_BYTES = Family("proxy_cache_served_bytes_total", "counter", ("route",), "Body bytes sent from the cache.")
CACHE_ENTRIES = Family("proxy_cache_entries", "gauge", (), "Responses in memory.")
CACHE_BYTES = Family("proxy_cache_bytes", "gauge", (), "Bytes that the responses in memory take.")
CACHE_BYTES_LIMIT = Family("proxy_cache_bytes_limit", "gauge", (), "cache.max_bytes, or this process's part of it.")
CACHE_EVICTIONS = Family(
    "proxy_cache_evictions_total", "counter", ("reason",), "Responses that left the memory: capacity, variants, gone."
)
CACHE_SHARED = Family(
    "proxy_cache_shared_total", "counter", ("operation", "outcome"), "What became of the cache's calls of Redis."
)
CACHE_PURGES = Family(
    "proxy_cache_purges_total", "counter", ("cause", "outcome"), "Purges and invalidations, by cause."
)
CACHE_PENDING = Family("proxy_cache_invalidations_pending", "gauge", (), "Invalidations that Redis has not taken yet.")
CACHE_GAP = Family("proxy_cache_gap", "gauge", (), "1 while word of changes on other instances does not get through.")
CACHE_WARMED = Family("proxy_cache_warmed_total", "counter", ("outcome",), "URLs fetched to warm the cache.")

# --- Redis ----------------------------------------------------------------------------------------------------------

REDIS_COMMANDS = Family("proxy_redis_commands_total", "counter", ("operation", "outcome"), "Calls of Redis.")
REDIS_DURATION = Family("proxy_redis_command_duration_seconds", "histogram", (), "Duration of a call of Redis.")
REDIS_UP = Family("proxy_redis_up", "gauge", (), "1 while Redis is used, 0 while it is left alone, absent without one.")
REDIS_INSTANCES = Family("proxy_redis_instances", "gauge", (), "Instances that share this Redis, by the last count.")

# --- upstreams ------------------------------------------------------------------------------------------------------

ATTEMPTS = Family("proxy_upstream_attempts_total", "counter", ("upstream", "outcome"), "Calls to an upstream.")
ATTEMPT_DURATION = Family(
    "proxy_upstream_attempt_duration_seconds", "histogram", ("upstream",), "Duration of one call to an upstream."
)
CONNECTION_EVENTS = Family(
    "proxy_upstream_connections_total", "counter", ("upstream", "event"), "What happened to upstream connections."
)
CONNECTIONS = Family(
    "proxy_upstream_connections", "gauge", ("upstream", "endpoint", "state"), "Open upstream connections."
)
POOL_WAITING = Family("proxy_upstream_pool_waiting", "gauge", ("upstream",), "Requests that wait for a connection.")
ENDPOINT_HEALTHY = Family("proxy_endpoint_healthy", "gauge", ("upstream", "endpoint"), "1 while in service, else 0.")
ENDPOINT_EJECTIONS = Family(
    "proxy_endpoint_ejections_total", "counter", ("upstream", "endpoint"), "Passive ejections of an endpoint."
)

# --- the process ----------------------------------------------------------------------------------------------------

CLIENT_CONNECTIONS = Family("proxy_client_connections", "gauge", (), "Open client connections.")
CLIENT_CONNECTION_LIMIT = Family("proxy_client_connection_limit", "gauge", (), "limits.max_connections.")
CLIENT_CONNECTIONS_REFUSED = Family(
    "proxy_client_connections_refused_total", "counter", (), "Client connections closed at the limit."
)
LOOP_LAG = Family("proxy_loop_lag_seconds", "histogram", (), "How late the event loop runs a timer.")
LOOP_LAG_MAX = Family("proxy_loop_lag_max_seconds", "gauge", (), "Largest event loop lag of the last minute.")
BUILD_INFO = Family("proxy_build_info", "gauge", ("version", "python", "aiohttp", "uvloop"), "Always 1.")
CONFIG_INFO = Family("proxy_config_info", "gauge", ("digest",), "Always 1; the digest of the configuration in force.")
CONFIG_RELOADS = Family("proxy_config_reloads_total", "counter", ("result",), "Reloads of the configuration.")
CONFIG_LOADED_AT = Family(
    "proxy_config_last_reload_success_timestamp_seconds", "gauge", (), "Unix time of the last successful load."
)
ACCESS_LOG_DROPPED = Family("proxy_access_log_dropped_total", "counter", (), "Access log lines that were not written.")
DRAINING = Family("proxy_draining", "gauge", (), "1 while the process shuts down, else 0.")
READY = Family("proxy_ready", "gauge", (), "1 while /readyz answers 200, else 0.")
WORKERS = Family("proxy_workers", "gauge", ("state",), "Worker processes, where there are several.")
WORKER_RESTARTS = Family("proxy_worker_restarts_total", "counter", ("reason",), "Workers that had to be started again.")

FAMILIES = tuple(value for value in tuple(globals().values()) if isinstance(value, Family))
