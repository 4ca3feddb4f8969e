"""How caching may be written: short forms and presets."""

from typing import Annotated

from pydantic import BeforeValidator

from proxy.config.caching import CacheConfig, CacheStoreConfig, InvalidateConfig, WarmConfig
from proxy.config.policy_forms import preset
from proxy.config.policy_types import TagPattern
from proxy.config.presets import CACHE_PRESETS, CachePreset
from proxy.config.types import Duration, OffAble, UrlPath

# --- of a route -----------------------------------------------------------------------------------------------------


def _cache_short_form(value: object) -> object:
    if isinstance(value, dict | CacheConfig):
        return value
    if isinstance(value, str) and value.replace("_", "").isalpha():
        return CacheConfig(**preset("cache", value, CACHE_PRESETS, "write a duration such as 5m"))
    if value is True:
        raise ValueError("true says nothing about it: {} is the standard alone, a duration such as 5m a lifetime")
    return {"ttl": value}


RouteCache = OffAble[
    Annotated[
        CacheConfig, BeforeValidator(_cache_short_form, json_schema_input_type=CacheConfig | CachePreset | Duration)
    ]
]
"""A duration or the name of a preset stands for `{ttl: …}`."""


def _tags_short_form(value: object) -> object:
    if isinstance(value, str):
        return {"tags": (value,)}
    return {"tags": value} if isinstance(value, tuple | list) else value


RouteInvalidate = OffAble[
    Annotated[
        InvalidateConfig,
        BeforeValidator(
            _tags_short_form, json_schema_input_type=InvalidateConfig | TagPattern | tuple[TagPattern, ...]
        ),
    ]
]
"""A tag or a list of tags stands for `{tags: […]}`."""

# --- of all routes --------------------------------------------------------------------------------------------------


def _warm_short_form(value: object) -> object:
    return {"urls": value} if isinstance(value, tuple | list) else value


class CacheStoreForm(CacheStoreConfig):
    """The memory that all routes' caches share, and what happens to it."""

    warm: OffAble[
        Annotated[
            WarmConfig, BeforeValidator(_warm_short_form, json_schema_input_type=WarmConfig | tuple[UrlPath, ...])
        ]
    ] = None
    """What is fetched before anybody asks for it; a list stands for `{urls: […]}`."""
