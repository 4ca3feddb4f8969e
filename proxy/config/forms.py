"""The form of policies.yaml: what may be written, short forms included. `resolve` turns it into `model`."""

from typing import Annotated, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from proxy.config.base import Model
from proxy.config.cache_forms import CacheStoreForm, RouteCache, RouteInvalidate
from proxy.config.later import LaterPolicies
from proxy.config.model import HeaderEdits, ServerConfig, UpstreamSettings
from proxy.config.policies import BreakerConfig, Criticality, TimeoutConfig
from proxy.config.policy_forms import (
    RateLimitsForm,
    RedisSection,
    RetryForm,
    RouteBreaker,
    RouteBulkhead,
    RouteFallback,
    SharedBulkhead,
    TimeoutForm,
)
from proxy.config.presets import ProfileName
from proxy.config.types import MatchText, Name, OffAble, PathTemplate, UpstreamUrl


def _match_short_form(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class UpstreamForm(UpstreamSettings):
    """One upstream: `url` for a single endpoint, `endpoints` for several."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["url"]}, {"required": ["endpoints"]}]})

    url: UpstreamUrl | None = None
    endpoints: Annotated[tuple[UpstreamUrl, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_way_to_name_endpoints(self) -> Self:
        if len(self.model_fields_set & {"url", "endpoints"}) != 1:
            raise ValueError("an upstream has either `url` or `endpoints`: write one of them")
        return self


class RouteSettings(LaterPolicies, Model):
    """What a route may have, and `defaults` for all routes."""

    upstream: Name | None = None
    """May be left out when there is only one."""
    rewrite: OffAble[PathTemplate] = None
    headers: HeaderEdits = HeaderEdits()
    timeout: TimeoutForm = TimeoutConfig()
    criticality: Criticality = "default"
    """What goes first when not everything can be served."""
    rate_limit: RateLimitsForm = None
    fallback: RouteFallback = None
    cache: RouteCache = None
    invalidate: RouteInvalidate = None
    retry: RetryForm = None
    breaker: RouteBreaker = None
    bulkhead: RouteBulkhead = None


class DefaultsForm(RouteSettings):
    """Applies to every route that does not write the key itself."""


class RouteForm(RouteSettings):
    """One route."""

    name: Name
    match: Annotated[
        tuple[MatchText, ...],
        Field(min_length=1),
        BeforeValidator(_match_short_form, json_schema_input_type=MatchText | list[MatchText]),
    ]
    """`METHOD /path/{parameter}`, one or a list; `*` is any method, a closing `/*` any rest."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The matches whose responses a cache can have."""
        return tuple(match for match in self.match if match.startswith(("GET ", "HEAD ", "* ")))

    @property
    def writes(self) -> tuple[str, ...]:
        """The matches that can change something."""
        return tuple(match for match in self.match if not match.startswith(("GET ", "HEAD ", "OPTIONS ")))


class PoliciesForm(Model):
    """policies.yaml."""

    profile: ProfileName | None = None
    """Where defaults start from."""
    server: ServerConfig = ServerConfig()
    redis: RedisSection = None
    """Where instances share their rate limits and what they have cached."""
    cache: CacheStoreForm = CacheStoreForm()
    """The memory that all routes' caches share."""
    upstreams: dict[Name, UpstreamForm]
    """The services behind the proxy, by name."""
    breakers: OffAble[dict[Name, BreakerConfig]] = None
    """Breakers that several routes share, by name."""
    bulkheads: OffAble[dict[Name, SharedBulkhead]] = None
    """Bulkheads that several routes share, by name."""
    defaults: DefaultsForm = DefaultsForm()
    routes: tuple[RouteForm, ...]
    """Which requests go where, under which policies. Their order has no meaning: the most specific match wins."""
