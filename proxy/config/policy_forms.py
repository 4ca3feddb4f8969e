"""How the resilience policies may be written: short forms, presets, and names of shared ones."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from proxy.config.policies import (
    BreakerConfig,
    BulkheadConfig,
    FallbackStep,
    FileFallback,
    Policy,
    RateLimitConfig,
    RedisSettings,
    RetryConfig,
    TimeoutConfig,
)
from proxy.config.policy_types import FieldName, MethodName, Rate, StoreUrl, one_or_several
from proxy.config.presets import BULKHEAD_PRESETS, RETRY_PRESETS, TIMEOUT_PRESETS, RetryPreset, TimeoutPreset
from proxy.config.scalar import shown
from proxy.config.types import Duration, FilePath, Name, OffAble

# --- timeout --------------------------------------------------------------------------------------------------------


def _timeout_short_form(value: object) -> object:
    if isinstance(value, dict):
        return value
    if isinstance(value, str) and value.replace("_", "").isalpha() and value not in ("off", "none"):
        return {"total": preset("timeout", value, TIMEOUT_PRESETS, "write a duration such as 10s")}
    return {"total": value}


def preset(policy: str, name: str, presets: Mapping[str, Any], otherwise: str) -> Any:
    """The value of a preset; raises ValueError for a name that is none."""
    if name not in presets:
        raise ValueError(f"{shown(name)} is no {policy}: {otherwise}, or a preset: {', '.join(presets)}")
    return presets[name]


TimeoutForm = Annotated[
    TimeoutConfig,
    BeforeValidator(
        _timeout_short_form,
        json_schema_input_type=TimeoutConfig | TimeoutPreset | OffAble[Duration],
    ),
]
"""A duration or the name of a preset stands for `{total: …}`."""

# --- retry ----------------------------------------------------------------------------------------------------------


def _retry_short_form(value: object) -> object:
    if isinstance(value, dict | RetryConfig):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no retry: write a preset, or {{max_attempts: 3}} and the like")
    return RetryConfig(**preset("retry", value, RETRY_PRESETS, "write {max_attempts: 3} and the like"))


RetryForm = OffAble[
    Annotated[RetryConfig, BeforeValidator(_retry_short_form, json_schema_input_type=RetryConfig | RetryPreset)]
]
"""The name of a preset stands for its numbers."""

# --- breaker and bulkhead -------------------------------------------------------------------------------------------


class _Shareable(Policy):
    """Either an own policy, or the `use` of a shared one in a mode of the route's choice."""

    use: Name | None = None
    """Name of the shared policy."""

    @model_validator(mode="after")
    def _use_stands_alone(self) -> Self:
        others = self.model_fields_set - {"use", "mode", "enforce_percent"}
        if self.use is not None and others:
            raise ValueError(f"`use` takes the numbers of the shared one: remove {', '.join(sorted(others))}")
        return self


class BreakerForm(_Shareable, BreakerConfig):
    """A route's breaker."""


class BulkheadForm(_Shareable, BulkheadConfig):
    """A route's bulkhead."""


def _use(value: object) -> object:
    if isinstance(value, bool | int | float):
        raise ValueError(f"{shown(value)} is neither a name nor a mapping: {{}} stands for the defaults")
    return {"use": value} if isinstance(value, str) else value


def _bulkhead_short_form(value: object) -> object:
    if isinstance(value, str) and value in BULKHEAD_PRESETS:
        return BulkheadForm(**BULKHEAD_PRESETS[value])
    return _use(value)


def _shared_bulkhead_short_form(value: object) -> object:
    if not isinstance(value, str):
        return value
    return BulkheadConfig(**preset("bulkhead", value, BULKHEAD_PRESETS, "write {max_concurrent: 10} and the like"))


RouteBreaker = OffAble[Annotated[BreakerForm, BeforeValidator(_use, json_schema_input_type=BreakerForm | Name)]]
"""A name stands for the entry of `breakers`."""
RouteBulkhead = OffAble[
    Annotated[BulkheadForm, BeforeValidator(_bulkhead_short_form, json_schema_input_type=BulkheadForm | Name)]
]
"""A name stands for a preset, else for the entry of `bulkheads`."""
SharedBulkhead = Annotated[
    BulkheadConfig, BeforeValidator(_shared_bulkhead_short_form, json_schema_input_type=BulkheadConfig | Name)
]

# --- rate limit -----------------------------------------------------------------------------------------------------


def _rate_short_form(value: object) -> object:
    return value if isinstance(value, dict) else {"rate": value}


RateLimitForm = Annotated[
    RateLimitConfig, BeforeValidator(_rate_short_form, json_schema_input_type=RateLimitConfig | Rate)
]
RateLimitsForm = OffAble[
    Annotated[
        tuple[RateLimitForm, ...],
        Field(min_length=1),
        BeforeValidator(one_or_several, json_schema_input_type=RateLimitForm | tuple[RateLimitForm, ...]),
    ]
]
"""A rate stands for `{rate: …}`; all limits of a list hold at once."""

# --- fallback -------------------------------------------------------------------------------------------------------


StepWord = Literal["stale", "last_known_good"]
STEP_WORDS = ("stale", "last_known_good")
"""Steps that take what the route's cache holds."""


def _file_short_form(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _step_short_form(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in STEP_WORDS:
        raise ValueError(f"{shown(value)} is no step: write {', '.join(STEP_WORDS)} or a mapping such as {{static: …}}")
    return {str(value): True}


class FallbackStepForm(FallbackStep):
    """One step, with its short forms."""

    file: Annotated[
        FileFallback | None, BeforeValidator(_file_short_form, json_schema_input_type=FileFallback | FilePath)
    ] = None
    null_fields: Annotated[
        tuple[FieldName, ...] | None,
        Field(min_length=1),
        BeforeValidator(one_or_several, json_schema_input_type=FieldName | tuple[FieldName, ...]),
    ] = None

    @model_validator(mode="after")
    def _exactly_one_kind(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"a step of a fallback has exactly one of {', '.join(type(self).model_fields)}")
        return self


_Step = Annotated[
    FallbackStepForm, BeforeValidator(_step_short_form, json_schema_input_type=FallbackStepForm | StepWord)
]
"""A word stands for `{WORD: true}`."""


class FallbackForm(Policy):
    """A route's fallback."""

    steps: Annotated[tuple[_Step, ...], Field(min_length=1)]
    """What is tried, in this order."""
    methods: tuple[MethodName, ...] = ("GET", "HEAD")


def _steps_short_form(value: object) -> object:
    if isinstance(value, dict) and value.keys() & FallbackStep.model_fields.keys():
        raise ValueError("the steps of a fallback are a list: write [{static: …}]")
    return {"steps": value} if isinstance(value, tuple | list) else value


RouteFallback = OffAble[
    Annotated[FallbackForm, BeforeValidator(_steps_short_form, json_schema_input_type=FallbackForm | tuple[_Step, ...])]
]
"""A list stands for `{steps: […]}`."""

# --- Redis ----------------------------------------------------------------------------------------------------------


def _empty_is_none(value: object) -> object:
    return value or None


class RedisForm(RedisSettings):
    """Where instances share state; an empty `url` means: they do not."""

    url: Annotated[StoreUrl | None, BeforeValidator(_empty_is_none, json_schema_input_type=StoreUrl | Literal[""])] = (
        None
    )


def _url_short_form(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


RedisSection = OffAble[
    Annotated[RedisForm, BeforeValidator(_url_short_form, json_schema_input_type=RedisForm | StoreUrl | Literal[""])]
]
