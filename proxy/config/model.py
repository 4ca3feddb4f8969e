"""policies.yaml as frozen pydantic models. Durations are float seconds, sizes are int bytes, `None` means off."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from proxy.config.types import ByteSize, Cidr, Duration, ListenAddress, OffAble, Secret, UpstreamUrl


class Model(BaseModel):
    """Base of every section: unknown keys are errors, nothing changes after load."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Limits(Model):
    """What one client may cost. See docs/limits.md."""

    max_connections: Annotated[int, Field(ge=1)] = 4096
    max_head: ByteSize = 32 * 1024
    max_body: OffAble[ByteSize] = 100 * 1024 * 1024
    header_timeout: Duration = 10.0
    body_timeout: Duration = 20.0
    """The body may take this long plus one second for every 500 bytes received."""
    write_timeout: Duration = 30.0
    """A client that takes nothing of its response for this long is dropped."""
    keepalive: Duration = 75.0


class AdminConfig(Model):
    """The admin listener. A bind beyond loopback needs `token` or `allow`."""

    listen: ListenAddress = ListenAddress("127.0.0.1", 9901)
    token: Secret | None = None
    allow: tuple[Cidr, ...] = ()


class ServerConfig(Model):
    """Listeners and limits; `listen`, `admin.listen` and `health` need a restart to change."""

    listen: ListenAddress = ListenAddress("0.0.0.0", 8080)
    admin: OffAble[AdminConfig] = AdminConfig()
    health: OffAble[ListenAddress] = None
    hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[Cidr, ...] = ()
    drain: Duration = 15.0
    ready_needs_upstream: bool = False
    limits: Limits = Limits()
    access_log: OffAble[str] = "stdout"
    """`stdout`, `stderr`, `off` or a file's path."""
    slow_request: OffAble[Duration] = 5.0


class HealthCheck(Model):
    """Active checks: one GET per interval and endpoint; 2xx and 3xx are healthy."""

    path: str = "/health"
    interval: Duration = 5.0
    timeout: Duration = 1.0
    unhealthy_after: Annotated[int, Field(ge=1)] = 3
    healthy_after: Annotated[int, Field(ge=1)] = 1


class Ejection(Model):
    """Passive ejection: an endpoint that keeps failing is left out for a while, never the last one."""

    consecutive_failures: Annotated[int, Field(ge=1)] = 5
    duration: Duration = 30.0
    """Times the number of ejections in a row."""
    max_duration: Duration = 300.0


class TlsConfig(Model):
    """TLS towards an upstream. Verification cannot be turned off."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None


class UpstreamConfig(Model):
    """One upstream service: `url` and `endpoints` in the file both arrive in `endpoints`."""

    name: str
    endpoints: tuple[UpstreamUrl, ...]
    host: str = "preserve"
    """`preserve` (the client's Host), `upstream` (the endpoint's authority) or the text to send."""
    connect_timeout: Duration = 1.0
    max_connections: Annotated[int, Field(ge=1)] = 64
    idle_timeout: Duration = 4.0
    """Below the idle timeout of common servers (2 to 5 s), or reuse would race with their close."""
    max_age: Duration = 60.0
    health: OffAble[HealthCheck] = None
    ejection: OffAble[Ejection] = Ejection()
    tls: TlsConfig = TlsConfig()


class TimeoutConfig(Model):
    """All limits of one route; None: no such limit."""

    total: OffAble[Duration] = 30.0
    attempt: OffAble[Duration] = None
    first_byte: OffAble[Duration] = None
    idle: OffAble[Duration] = 60.0


class HeaderEdit(Model):
    """`set` replaces every field of that name; `remove` deletes."""

    set: dict[str, str] = {}
    remove: tuple[str, ...] = ()


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
    rewrite: str | None = None
    headers: HeaderEdits = HeaderEdits()
    timeout: TimeoutConfig = TimeoutConfig()


class Config(Model):
    """The whole file, resolved: every route names an upstream that exists and carries all its effective values."""

    profile: Literal["development", "production"] | None = None
    server: ServerConfig = ServerConfig()
    upstreams: dict[str, UpstreamConfig]
    routes: tuple[RouteConfig, ...]
    digest: str
    """SHA-256 of the resolved values, hex; equal digests mean equal behaviour."""
