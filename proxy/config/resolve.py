"""From what is written to what is in force: profile, presets, defaults and routes, with the origin of every value."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.config.caching import CacheStoreConfig
from proxy.config.document import Document, Loc
from proxy.config.forms import PoliciesForm, UpstreamForm
from proxy.config.model import Config, HeaderEdit, HeaderEdits, RouteConfig, ServerConfig, TlsConfig, UpstreamConfig
from proxy.config.policies import RedisConfig, TimeoutConfig
from proxy.config.presets import PROFILES, TIMEOUT_PRESETS
from proxy.config.resolve_policies import BUILT_IN, Layer, PolicyResolver, written

Origins = Mapping[tuple[str, ...], str]
"""Where a value comes from, by `("routes", NAME, "timeout.total")`, `("upstreams", NAME, KEY)`, `("server", KEY)`."""


def resolve(form: PoliciesForm, document: Document, folder: Path) -> tuple[Config, Origins]:
    """All effective values of a form without mistakes. Relative file names are taken from `folder`."""
    resolver = _Resolver(form, document, folder)
    server = resolver.server()
    redis = resolver.redis()
    cache = resolver.cache()
    upstreams = {name: resolver.upstream(name, upstream) for name, upstream in form.upstreams.items()}
    routes = tuple(resolver.route(index) for index in range(len(form.routes)))
    config = Config.model_construct(
        profile=form.profile,
        server=server,
        redis=redis,
        cache=cache,
        upstreams=upstreams,
        routes=routes,
        digest="",
    )
    return config.model_copy(update={"digest": _digest(config)}), resolver.origins


def _digest(config: Config) -> str:
    """Over all values, secrets included, and over the files they name: a renewed certificate is a change too."""
    values = config.model_dump(mode="json", exclude={"digest"}, context={"reveal": True})
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for upstream in config.upstreams.values():
        digest.update(upstream.tls_digest.encode())
    for step in (step for route in config.routes if route.fallback for step in route.fallback.steps):
        if step.file is not None:
            digest.update(hashlib.sha256(Path(step.file.path).read_bytes()).digest())
    return digest.hexdigest()


def tls_files(tls: TlsConfig) -> dict[str, str]:
    """The files that `tls` names, by key."""
    return {key: name for key in ("ca", "cert", "key") if (name := getattr(tls, key)) is not None}


class _Resolver:
    """Resolves the parts of one form and notes every value's origin."""

    def __init__(self, form: PoliciesForm, document: Document, folder: Path) -> None:
        self.origins: dict[tuple[str, ...], str] = {}
        self._form = form
        self._document = document
        self._folder = folder
        self._policies = PolicyResolver(form, document, folder, self.origins)

    # --- server and upstreams

    def server(self) -> ServerConfig:
        """The profile's values, then the file's."""
        profile = PROFILES[self._form.profile] if self._form.profile else {}
        for key in ServerConfig.model_fields:
            self._note(
                ("server", key), ("server", key), f"profile {self._form.profile}" if key in profile else BUILT_IN
            )
        server = self._form.server
        update = {key: value for key, value in profile.items() if key not in server.model_fields_set}
        if server.access_log not in ("stdout", "stderr", None):
            update["access_log"] = self._absolute(server.access_log)
        return server.model_copy(update=update)

    def upstream(self, name: str, form: UpstreamForm) -> UpstreamConfig:
        """The form with its endpoints in one place."""
        values = written(form)
        for key in UpstreamForm.model_fields:
            self._note(("upstreams", name, key), ("upstreams", name, key), BUILT_IN)
        if form.url is not None:
            self.origins["upstreams", name, "endpoints"] = self.origins["upstreams", name, "url"]
        url, endpoints = values.pop("url", None), values.pop("endpoints", None)
        files = {key: self._absolute(value) for key, value in tls_files(form.tls).items()}
        if files:
            values["tls"] = form.tls.model_copy(update=files)
            contents = [Path(name).read_bytes() for name in files.values()]
            values["tls_digest"] = hashlib.sha256(b"".join(contents)).hexdigest()
        return UpstreamConfig.model_construct(name=name, endpoints=endpoints or (url,), **values)

    def _absolute(self, name: str) -> str:
        return str(self._folder / name)

    def redis(self) -> RedisConfig | None:
        """Where state is shared; None without a URL."""
        form = self._form.redis
        if form is None or form.url is None:
            return None
        for key in RedisConfig.model_fields:
            self._note(("redis", key), ("redis", key), BUILT_IN)
        return RedisConfig.model_construct(**written(form))

    def cache(self) -> CacheStoreConfig:
        """The memory that the caches share."""
        for key in CacheStoreConfig.model_fields:
            self._note(("cache", key), ("cache", key), BUILT_IN)
        return CacheStoreConfig.model_construct(**written(self._form.cache))

    # --- routes

    def route(self, index: int) -> RouteConfig:
        """One route over the defaults."""
        form = self._form.routes[index]
        layers = (
            Layer(self._form.defaults, ("defaults",), "defaults"),
            Layer(form, ("routes", index), "route"),
        )
        only = next(iter(self._form.upstreams))
        upstream, rewrite = self._last(form.name, "upstream", layers), self._last(form.name, "rewrite", layers)
        if upstream is None:
            self.origins["routes", form.name, "upstream"] = "the only one"
        return RouteConfig.model_construct(
            name=form.name,
            match=form.match,
            upstream=upstream or only,
            rewrite=rewrite,
            headers=self._headers(form.name, layers),
            timeout=self._timeout(form.name, layers),
            criticality=self._last(form.name, "criticality", layers) or "default",
            **self._policies.of_route(form.name, layers),
        )

    def _last(self, route: str, key: str, layers: tuple[Layer, ...]) -> Any:
        value = None
        self.origins["routes", route, key] = BUILT_IN
        for layer in layers:
            if key in layer.settings.model_fields_set:
                value = getattr(layer.settings, key)
                self._note_layer(route, key, layer, (key,))
        return value

    def _timeout(self, route: str, layers: tuple[Layer, ...]) -> TimeoutConfig:
        values: dict[str, Any] = {}
        for key in TimeoutConfig.model_fields:
            self.origins["routes", route, f"timeout.{key}"] = BUILT_IN
        for layer in layers:
            for key, value in written(layer.settings.timeout).items():
                values[key] = value
                self._note_layer(route, f"timeout.{key}", layer, ("timeout", key))
        if values.get("mode") == "off":
            return TimeoutConfig(total=None, attempt=None, first_byte=None, idle=None)
        return TimeoutConfig.model_construct(**values)

    def _headers(self, route: str, layers: tuple[Layer, ...]) -> HeaderEdits:
        return HeaderEdits(request=self._edit(route, layers, "request"), response=self._edit(route, layers, "response"))

    def _edit(self, route: str, layers: tuple[Layer, ...], direction: str) -> HeaderEdit:
        """Each header name is a key of its own: what a route says about it replaces what the defaults say."""
        edits: dict[str, tuple[str, str | None]] = {}
        for layer in layers:
            edit: HeaderEdit = getattr(layer.settings.headers, direction)
            for action, names in (("set", tuple(edit.set)), ("remove", edit.remove)):
                for name in names:
                    edits[name.lower()] = (name, edit.set.get(name))
                    self._note_layer(
                        route, f"headers.{direction}.{name.lower()}", layer, ("headers", direction, action, name)
                    )
        return HeaderEdit.model_construct(
            set={name: value for name, value in edits.values() if value is not None},
            remove=tuple(name for name, value in edits.values() if value is None),
        )

    # --- origins

    def _note(self, key: tuple[str, ...], path: Loc, otherwise: str) -> None:
        written = path in self._document.keys
        self.origins[key] = f"written, line {self._document.keys[path].line}" if written else otherwise

    def _note_layer(self, route: str, key: str, layer: Layer, path: Loc) -> None:
        full = (*layer.path, *path)
        line = self._document.value_mark(full).line
        short = self._document.get((*layer.path, "timeout")) if path[0] == "timeout" else None
        preset = f"preset {short}, " if isinstance(short, str) and short in TIMEOUT_PRESETS else ""
        self.origins["routes", route, key] = f"{preset}{layer.label}, line {line}"
