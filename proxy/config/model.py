"""policies.yaml, resolved, as frozen pydantic models.

Durations are float seconds, sizes are int bytes, `None` means off. Where a section looks the same in the file, its
class is also what the file is checked against; the rest of the file's form is in `forms`.
"""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from proxy.config.base import Model
from proxy.config.caching import CacheConfig, CacheStoreConfig, InvalidateConfig
from proxy.config.policies import (
    Criticality,
    FallbackConfig,
    NamedBreaker,
    NamedBulkhead,
    RateLimitConfig,
    RedisConfig,
    RetryConfig,
    TimeoutConfig,
)
from proxy.config.presets import ProfileName
from proxy.config.types import (
    AccessLog,
    Authority,
    ByteSize,
    Cidr,
    Count,
    Delay,
    Duration,
    FilePath,
    Flag,
    HeaderName,
    HeaderValue,
    HostChoice,
    HostName,
    ListenAddress,
    Name,
    OffAble,
    Secret,
    UpstreamUrl,
    UrlPath,
    empty_is_none,
    read_count,
)


class Limits(Model):
    """What one client may cost."""

    max_connections: Count = 4096
    max_head: ByteSize = 32 * 1024
    max_body: OffAble[ByteSize] = 100 * 1024 * 1024
    header_timeout: Duration = 10.0
    body_timeout: Duration = 20.0
    """The body may take this long plus one second for every 500 bytes received."""
    write_timeout: Duration = 30.0
    """A client that takes nothing of its response for this long is dropped."""
    keepalive: Duration = 75.0
    loop_lag: OffAble[Duration] = 0.1
    """An event loop that is late by this much, three times in a row, has requests refused by their criticality."""


class AdminConfig(Model):
    """The admin listener. A bind beyond loopback needs `token` or `allow`."""

    listen: ListenAddress = ListenAddress("127.0.0.1", 9901)
    token: Annotated[Secret | None, BeforeValidator(empty_is_none)] = None
    """Empty when a variable is empty: then there is none."""
    allow: tuple[Cidr, ...] = ()


def _admin_short_form(value: object) -> object:
    return {"listen": value} if isinstance(value, str) else value


def _health_short_form(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class ServerConfig(Model):
    """Listeners and limits; `listen`, `admin.listen` and `health` need a restart to change."""

    listen: ListenAddress = ListenAddress("0.0.0.0", 8080)  # noqa: S104 - a proxy is there to be reached
    admin: OffAble[
        Annotated[AdminConfig, BeforeValidator(_admin_short_form, json_schema_input_type=AdminConfig | ListenAddress)]
    ] = AdminConfig()
    health: OffAble[ListenAddress] = None
    """A second, read-only listener with /metrics, /healthz and /readyz."""
    hosts: tuple[Authority, ...] = ()
    """The authorities served; others get 421. Without a port: on every port. Empty: any."""
    trusted_proxies: tuple[Cidr, ...] = ()
    """Whose forwarding header fields are believed: single proxies, never a network that clients share."""
    drain: Delay = 15.0
    """How long requests may go on after SIGTERM."""
    ready_needs_upstream: Flag = False
    limits: Limits = Limits()
    access_log: OffAble[AccessLog] = "stdout"
    """`stdout`, `stderr`, `off` or a file's path."""
    slow_request: OffAble[Duration] = 5.0
    """A request that takes longer is logged as slow."""
    workers: Annotated[int, Field(ge=1, le=64), BeforeValidator(read_count)] = 1
    """Processes that share the data port; local limits are divided among them."""


class HealthCheck(Model):
    """Active checks: one GET per interval and endpoint; 2xx and 3xx are healthy."""

    path: UrlPath = "/health"
    interval: Duration = 5.0
    timeout: Duration = 1.0
    unhealthy_after: Count = 3
    healthy_after: Count = 1


class Ejection(Model):
    """Passive ejection: an endpoint that keeps failing is left out for a while, never the last one."""

    consecutive_failures: Count = 5
    duration: Duration = 30.0
    """Times the number of ejections in a row."""
    max_duration: Duration = 300.0


class TlsConfig(Model):
    """TLS towards an upstream. Verification cannot be turned off. Paths are relative to the policies file."""

    ca: FilePath | None = None
    cert: FilePath | None = None
    key: FilePath | None = None
    server_name: HostName | None = None


class UpstreamSettings(Model):
    """What an upstream has beside its name and endpoints."""

    host: HostChoice = "preserve"
    """`preserve` (the client's Host), `upstream` (the endpoint's authority) or the text to send."""
    connect_timeout: Duration = 1.0
    max_connections: Count = 64
    idle_timeout: Duration = 4.0
    """Below the idle timeout of common servers (2 to 5 s), or reuse would race with their close."""
    max_age: Duration = 60.0
    """Connections older than this are not used again, so that a change of address is noticed."""
    health: OffAble[
        Annotated[HealthCheck, BeforeValidator(_health_short_form, json_schema_input_type=HealthCheck | UrlPath)]
    ] = None
    ejection: OffAble[Ejection] = Ejection()
    tls: TlsConfig = TlsConfig()


class UpstreamConfig(UpstreamSettings):
    """One upstream service: `url` and `endpoints` in the file both arrive in `endpoints`."""

    name: str
    endpoints: tuple[UpstreamUrl, ...]
    tls_digest: Annotated[str, Field(exclude=True)] = ""
    """Over the contents of the TLS files: with a renewed certificate it is another upstream."""


class HeaderEdit(Model):
    """`set` replaces every field of that name; `remove` deletes."""

    set: dict[HeaderName, HeaderValue] = {}
    remove: tuple[HeaderName, ...] = ()

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        seen = set[str]()
        for name in (*self.set, *self.remove):
            if name.lower() in seen:
                raise ValueError(f"the header {name} is named twice: set it or remove it, once")
            seen.add(name.lower())
        return self


class HeaderEdits(Model):
    """Header fields changed on the way to the upstream and on the way back."""

    request: HeaderEdit = HeaderEdit()
    response: HeaderEdit = HeaderEdit()


class RouteConfig(Model):
    """One route, with the file's `defaults:` already applied."""

    name: str
    match: tuple[str, ...]
    """`METHOD /template` each; METHOD may be `*`."""
    upstream: str
    rewrite: OffAble[str] = None
    """The path to send instead, from the parameters of the match; None: the client's path."""
    headers: HeaderEdits = HeaderEdits()
    timeout: TimeoutConfig = TimeoutConfig()
    criticality: Criticality = "default"
    rate_limit: tuple[RateLimitConfig, ...] = ()
    fallback: FallbackConfig | None = None
    cache: CacheConfig | None = None
    invalidate: InvalidateConfig | None = None
    retry: RetryConfig | None = None
    breaker: NamedBreaker | None = None
    bulkhead: NamedBulkhead | None = None


class Config(Model):
    """The whole file, resolved: every route names an upstream that exists and carries all its effective values."""

    profile: ProfileName | None = None
    server: ServerConfig = ServerConfig()
    redis: RedisConfig | None = None
    cache: CacheStoreConfig = CacheStoreConfig()
    upstreams: dict[Name, UpstreamConfig]
    routes: tuple[RouteConfig, ...]
    digest: str
    """SHA-256 of the resolved values, hex; equal digests mean equal behaviour."""
