"""The form of policies.yaml: what may be written, short forms included. `resolve` turns it into `model`."""

from typing import Annotated, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from proxy.config.base import Model
from proxy.config.later import LaterPolicies, LaterSections
from proxy.config.model import HeaderEdits, ServerConfig, UpstreamSettings
from proxy.config.policies import TimeoutConfig
from proxy.config.presets import TIMEOUT_PRESETS, ProfileName, TimeoutPreset
from proxy.config.scalar import shown
from proxy.config.types import Duration, MatchText, Name, OffAble, PathTemplate, UpstreamUrl


def _timeout_short_form(value: object) -> object:
    if isinstance(value, dict):
        return value
    if isinstance(value, str) and value.replace("_", "").isalpha() and value not in ("off", "none"):
        if value not in TIMEOUT_PRESETS:
            names = ", ".join(TIMEOUT_PRESETS)
            raise ValueError(f"{shown(value)} is no timeout: write a duration such as 10s, or a preset: {names}")
        return {"total": TIMEOUT_PRESETS[value]}
    return {"total": value}


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
    timeout: Annotated[
        TimeoutConfig,
        BeforeValidator(
            _timeout_short_form,
            json_schema_input_type=TimeoutConfig | TimeoutPreset | OffAble[Duration],
        ),
    ] = TimeoutConfig()
    """A duration or the name of a preset stands for `{total: …}`."""


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


class PoliciesForm(LaterSections, Model):
    """policies.yaml."""

    profile: ProfileName | None = None
    """Where defaults start from."""
    server: ServerConfig = ServerConfig()
    upstreams: dict[Name, UpstreamForm]
    """The services behind the proxy, by name."""
    defaults: DefaultsForm = DefaultsForm()
    routes: tuple[RouteForm, ...]
    """Which requests go where, under which policies. Their order has no meaning: the most specific match wins."""
