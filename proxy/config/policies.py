"""The resilience policies of a route, in their long form: what the file is checked against and what the layers take.

Every policy has `mode` and `enforce_percent`. Where a route's policy is None, the route does not have it.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from proxy.config.base import Model
from proxy.config.policy_types import (
    ClientKey,
    FieldName,
    MethodName,
    Mode,
    Rate,
    Ratio,
    RetryCause,
    StatusCode,
    StoreUrl,
    one_or_several,
)
from proxy.config.types import Count, Duration, FilePath, Flag, HeaderName, HeaderValue, Name, OffAble, read_count

Criticality = Literal["critical", "default", "sheddable", "background"]

CRITICALITIES: tuple[Criticality, ...] = ("critical", "default", "sheddable", "background")
"""Most important first."""


class Policy(Model):
    """What all policies have."""

    mode: Mode = "enforce"
    """`shadow` decides and reports, and changes nothing."""
    enforce_percent: Ratio = 1.0
    """The share of clients for whom `enforce` holds; for the others the policy is in shadow."""


class TimeoutConfig(Policy):
    """All limits of one route; None: no such limit."""

    total: OffAble[Duration] = 30.0
    """From the complete head of the request to the last byte of the response."""
    attempt: OffAble[Duration] = None
    """One call of the upstream."""
    first_byte: OffAble[Duration] = None
    """From the sent request to the first byte of the response."""
    idle: OffAble[Duration] = 60.0
    """Between two pieces of the response, or of a tunnel."""


class RetryConfig(Policy):
    """When a failed attempt is made again. The defaults are those of the preset `standard`."""

    max_attempts: Count = 6
    """The first one included."""
    base_delay: Duration = 0.5
    max_delay: Duration = 10.0
    """The wait after attempt n is drawn from 0 to the smaller of `max_delay` and `base_delay` times 2^(n-1)."""
    retry_on: tuple[RetryCause, ...] = (502, 503, 504, "connect", "reset", "timeout")
    methods: tuple[MethodName, ...] = ("GET", "HEAD", "OPTIONS")
    """Any other is retried only while no byte of the request has been written."""
    budget: Ratio = 0.1
    """Retries as a share of the first attempts of the last ten seconds; three a second are always allowed."""
    max_retry_after: Duration = 30.0
    """The longest wait, and the longest cool-down of the route, that a Retry-After of the upstream can ask for."""


class BreakerConfig(Policy):
    """When the upstream is left alone for a while: any one of the three conditions opens the breaker."""

    consecutive_failures: OffAble[Count] = 5
    failure_ratio: OffAble[Ratio] = 0.5
    """Of the attempts in `sampling_window`, once there are `minimum_throughput` of them."""
    slow_call: OffAble[Duration] = None
    """An attempt whose response head takes longer is slow."""
    slow_call_ratio: Ratio = 0.5
    sampling_window: Duration = 30.0
    minimum_throughput: Count = 20
    success_threshold: Count = 2
    """So many successful probes, one after the other, close it."""
    break_duration: Duration = 60.0
    """Doubles with each opening in a row."""
    max_break_duration: Duration = 600.0


class BulkheadConfig(Policy):
    """How many exchanges may be with the upstream at a time, and how many may wait for that."""

    max_concurrent: Count = 10
    max_queued: Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(read_count)] = 100
    queue_timeout: Duration | None = None
    """None: the smaller of one second and half of what is left of the deadline."""
    adaptive: Flag = False
    """Whether the limit follows the upstream's latency, between `min_concurrent` and `max_concurrent`."""
    min_concurrent: Count = 4


class RateLimitConfig(Policy):
    """How often one client may ask."""

    rate: Rate
    burst: Count | None = None
    """Requests at once; None: the count of `rate`."""
    key: Annotated[
        tuple[ClientKey, ...],
        Field(min_length=1),
        BeforeValidator(one_or_several, json_schema_input_type=ClientKey | tuple[ClientKey, ...]),
    ] = (ClientKey("client_ip"),)
    """What tells one client from the other; several together make one key."""
    cost: Count = 1
    """What one request takes from the limit."""
    on_store_error: Literal["local", "open", "closed"] = "local"
    """Without Redis: its share for each instance, no limit, or 503 for everybody."""


class StaticFallback(Model):
    """A fixed answer. `body` is text, or JSON when it is anything else."""

    status: StatusCode = 200
    headers: dict[HeaderName, HeaderValue] = {}
    body: Any = ""


class FileFallback(Model):
    """An answer from a file, read when the configuration is loaded."""

    path: FilePath
    status: StatusCode = 200
    content_type: HeaderValue | None = None
    """None: by the file's suffix."""


class FallbackStep(Model):
    """One thing to answer with: exactly one of the keys is there."""

    static: StaticFallback | None = None
    file: FileFallback | None = None
    upstream: Name | None = None
    null_fields: Annotated[tuple[FieldName, ...], Field(min_length=1)] | None = None
    """A JSON object in which these fields are null and `degraded` is true."""
    stale: Literal[True] | None = None
    """What the cache has stored and could not use otherwise; as a word alone, `stale`."""
    last_known_good: Literal[True] | None = None
    """The last good answer that the cache has kept, even if it is known to be outdated; as a word alone."""

    @model_serializer(mode="wrap", when_used="json")
    def _word_or_mapping(self, values: SerializerFunctionWrapHandler) -> dict[str, Any] | str:
        return "stale" if self.stale else "last_known_good" if self.last_known_good else values(self)


class FallbackConfig(Policy):
    """What is answered in place of a failure; the first step that has an answer wins."""

    steps: Annotated[tuple[FallbackStep, ...], Field(min_length=1)]
    methods: tuple[MethodName, ...] = ("GET", "HEAD")


class NamedBreaker(BreakerConfig):
    """A breaker and the name of its state: that of the route, or of its entry in `breakers`."""

    name: str


class NamedBulkhead(BulkheadConfig):
    """A bulkhead and the name of its state: that of the route, or of its entry in `bulkheads`."""

    name: str


class RedisSettings(Model):
    """What there is to say about Redis beside its address."""

    timeout: Duration = 0.05
    """For all that one request asks of Redis."""
    prefix: Name = "tidegate"
    """What the names of all keys begin with."""
    max_connections: Count = 16


class RedisConfig(RedisSettings):
    """Where instances share state."""

    url: StoreUrl
