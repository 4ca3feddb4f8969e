"""A route's resilience policies: its own keys over those of `defaults`, over presets, profile and shared entries."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.config.base import Model
from proxy.config.caching import CacheConfig, InvalidateConfig
from proxy.config.document import Document, Loc
from proxy.config.forms import PoliciesForm, RouteForm, RouteSettings
from proxy.config.policies import (
    BreakerConfig,
    BulkheadConfig,
    FallbackConfig,
    FallbackStep,
    NamedBreaker,
    NamedBulkhead,
    Policy,
    RateLimitConfig,
    RetryConfig,
)
from proxy.config.presets import BREAKER_PROFILES

BUILT_IN = "built in"

_MODE_KEYS = frozenset(Policy.model_fields)


def written(settings: Model) -> dict[str, Any]:
    """The values that the file gives, without those that are there by default."""
    return {key: getattr(settings, key) for key in sorted(settings.model_fields_set)}


@dataclass(frozen=True, slots=True)
class Layer:
    """The settings of `defaults` or of a route, and where they are written."""

    settings: RouteSettings
    path: Loc
    label: str

    def line(self, document: Document, *path: str) -> str:
        """Where `path` within these settings is written, for people."""
        return f"{self.label}, line {document.value_mark((*self.path, *path)).line}"


def _applying(layers: tuple[Layer, ...], key: str) -> tuple[Layer, ...]:
    """The layers without `defaults`, where those could only mean other routes: nothing is cached or changed here."""
    route = layers[-1].settings
    if isinstance(route, RouteForm) and not (route.reads if key == "cache" else route.writes):
        return layers[-1:]
    return layers


class _Merged:
    """The keys of one policy, as layer upon layer writes them, each with its origin."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}

    def put(self, values: Mapping[str, Any], origin: str) -> None:
        for key, value in values.items():
            self.values[key] = value
            self.origins[key] = origin

    def clear(self, keep: AbstractSet[str] = frozenset()) -> None:
        self.values = {key: value for key, value in self.values.items() if key in keep}
        self.origins = {key: origin for key, origin in self.origins.items() if key in keep}


class PolicyResolver:
    """Resolves policies of one form and notes every value's origin."""

    def __init__(
        self, form: PoliciesForm, document: Document, folder: Path, origins: dict[tuple[str, ...], str]
    ) -> None:
        self._form = form
        self._document = document
        self._folder = folder
        self._origins = origins

    def of_route(self, route: str, layers: tuple[Layer, ...]) -> dict[str, Any]:
        """The values of RouteConfig's policy fields."""
        return {
            "rate_limit": self._rate_limits(route, layers),
            **self.caching_of_route(route, layers),
            "retry": self._by_key(route, layers, "retry", RetryConfig),
            "breaker": self._breaker(route, layers),
            "bulkhead": self._bulkhead(route, layers),
        }

    def caching_of_route(self, route: str, layers: tuple[Layer, ...]) -> dict[str, Any]:
        """Those that have to do with the cache: `fallback`, `cache` and `invalidate`."""
        return {
            "fallback": self._fallback(route, layers),
            "cache": self._by_key(route, _applying(layers, "cache"), "cache", CacheConfig),
            "invalidate": self._invalidate(route, _applying(layers, "invalidate")),
        }

    # --- lists: what the route writes replaces what the defaults write

    def _rate_limits(self, route: str, layers: tuple[Layer, ...]) -> tuple[RateLimitConfig, ...]:
        limits, origin = self._replaced(layers, "rate_limit")
        limits = tuple(limit for limit in limits or () if limit.mode != "off")
        if limits:
            self._origins["routes", route, "rate_limit"] = origin
        return limits

    def _fallback(self, route: str, layers: tuple[Layer, ...]) -> FallbackConfig | None:
        form, origin = self._replaced(layers, "fallback")
        if form is None or form.mode == "off":
            return None
        self._origins["routes", route, "fallback"] = origin
        steps = tuple(self._step(step) for step in form.steps)
        return FallbackConfig.model_construct(**{**written(form), "steps": steps})

    def _step(self, step: FallbackStep) -> FallbackStep:
        file = step.file
        if file is not None:
            file = file.model_copy(update={"path": str(self._folder / file.path)})
            return FallbackStep.model_construct(file=file)
        return FallbackStep.model_construct(**written(step))

    def _invalidate(self, route: str, layers: tuple[Layer, ...]) -> InvalidateConfig | None:
        form, origin = self._replaced(layers, "invalidate")
        if form is None or form.mode == "off":
            return None
        self._origins["routes", route, "invalidate"] = origin
        return InvalidateConfig.model_construct(**written(form))

    def _replaced(self, layers: tuple[Layer, ...], key: str) -> tuple[Any, str]:
        value, origin = None, BUILT_IN
        for layer in layers:
            if key in layer.settings.model_fields_set:
                value, origin = getattr(layer.settings, key), layer.line(self._document, key)
        return value, origin

    # --- mappings: key by key

    def _by_key(self, route: str, layers: tuple[Layer, ...], key: str, model: type[Any]) -> Any:
        merged = _Merged()
        present = False
        for layer in self._writing(layers, key):
            form = getattr(layer.settings, key)
            present = form is not None
            self._lay(merged, layer, key, form)
        return self._built(route, key, model, merged) if present else None

    def _breaker(self, route: str, layers: tuple[Layer, ...]) -> NamedBreaker | None:
        merged = _Merged()
        profile = self._form.profile
        base = BREAKER_PROFILES[profile] if profile else {}
        shared = self._form.breakers or {}
        name = self._shareable(route, layers, "breaker", merged, base, f"profile {profile}", shared)
        return None if name is None else self._built(route, "breaker", NamedBreaker, merged, name=name)

    def _bulkhead(self, route: str, layers: tuple[Layer, ...]) -> NamedBulkhead | None:
        merged = _Merged()
        name = self._shareable(route, layers, "bulkhead", merged, {}, "", self._form.bulkheads or {})
        if name is None:
            return None
        fields = BulkheadConfig.model_fields
        most = merged.values.get("max_concurrent", fields["max_concurrent"].default)
        merged.values.setdefault("min_concurrent", min(fields["min_concurrent"].default, most))
        bulkhead: NamedBulkhead | None = self._built(route, "bulkhead", NamedBulkhead, merged, name=name)
        return bulkhead

    def _shareable(
        self,
        route: str,
        layers: tuple[Layer, ...],
        key: str,
        merged: _Merged,
        base: Mapping[str, Any],
        base_origin: str,
        shared: Mapping[str, BreakerConfig | BulkheadConfig],
    ) -> str | None:
        """The name of the state: the entry's, or the route's own; None: no such policy. The values go to `merged`."""
        name: str | None = None
        for layer in self._writing(layers, key):
            form = getattr(layer.settings, key)
            values = {} if form is None else written(form)
            use = values.pop("use", None)
            if form is None:
                merged.clear()
                name = None
            elif use is not None:
                name = use
                entry = written(shared[use])
                merged.clear(keep=_MODE_KEYS - entry.keys())  # who shadows by the defaults shadows what is shared, too
                merged.put(base, base_origin)
                merged.put(entry, f"{key}s.{use}, line {self._document.key_mark((f'{key}s', use)).line}")
                self._lay_values(merged, layer, key, values)
            elif name is not None and name != route and not values.keys() <= _MODE_KEYS:
                merged.clear(keep=_MODE_KEYS)  # own numbers instead of the shared entry that the defaults name
                name = route
                merged.put(base, base_origin)
                self._lay_values(merged, layer, key, values)
            else:
                if name is None:
                    name = route
                    merged.put(base, base_origin)
                self._lay_values(merged, layer, key, values)
        return name

    def _writing(self, layers: tuple[Layer, ...], key: str) -> Iterator[Layer]:
        return (layer for layer in layers if key in layer.settings.model_fields_set)

    def _lay(self, merged: _Merged, layer: Layer, key: str, form: Policy | None) -> None:
        if form is None:
            merged.clear()
        else:
            self._lay_values(merged, layer, key, written(form))

    def _lay_values(self, merged: _Merged, layer: Layer, key: str, values: Mapping[str, Any]) -> None:
        short = self._document.get((*layer.path, key))
        preset = f"preset {short}, " if isinstance(short, str) else ""
        for name, value in values.items():
            merged.put({name: value}, preset + layer.line(self._document, key, name))

    def _built(self, route: str, key: str, model: type[Any], merged: _Merged, **more: Any) -> Any:
        """The policy, unless its mode is off."""
        if merged.values.get("mode") == "off":
            return None
        for name in model.model_fields.keys() - more.keys():
            self._origins["routes", route, f"{key}.{name}"] = merged.origins.get(name, BUILT_IN)
        return model.model_construct(**merged.values, **more)
