"""Contradictions within and between the resilience policies of a file."""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.config.checked import Checked, Finding
from proxy.config.document import Loc
from proxy.config.forms import RouteForm, RouteSettings
from proxy.config.policies import BreakerConfig, BulkheadConfig, RateLimitConfig, RetryConfig
from proxy.config.presets import BULKHEAD_PRESETS
from proxy.config.quantities import format_duration
from proxy.config.resolve_policies import Layer, PolicyResolver
from proxy.config.scalar import quoted, shown
from proxy.config.types import is_off

_MAX_FILE = 1 << 20
"""Bytes of a file that is a fallback."""
_LONGEST_BURST = 1e9
"""Seconds until a burst is there again; more would not fit into what Redis counts in microseconds."""


def find_policy_contradictions(checked: Checked) -> Iterator[Finding]:
    """All of them."""
    yield from _shared(checked)
    for path, settings in all_settings(checked):
        yield from _names(checked, path, settings)
        yield from _fallback(checked, path, settings)
    for path, route in checked.routes():
        yield from _of_route(checked, path, route.name)


def find_policy_doubts(checked: Checked) -> Iterator[Finding]:
    """What is allowed but is rarely meant."""
    redis = checked.form.redis
    if redis is not None and "url" not in redis.model_fields_set:
        yield ("redis",), "without a `url` there is no Redis: limits hold for each instance alone"
    for key in ("breaker", "bulkhead"):
        entries: Mapping[str, Any] = getattr(checked.form, f"{key}s") or {}
        used = {form.use for _, settings in all_settings(checked) if (form := getattr(settings, key)) is not None}
        for name in entries.keys() - used:
            yield (f"{key}s", name), f"no route uses the {key} {quoted(name)}"
    for path, route in checked.routes():
        yield from _doubts_of_route(checked, path, route)


def _doubts_of_route(checked: Checked, path: Loc, route: RouteForm) -> Iterator[Finding]:
    policies = policies_of(checked, path, route)
    retry, breaker, fallback = policies["retry"], policies["breaker"], policies["fallback"]
    failures = breaker.consecutive_failures if breaker is not None else None
    if retry is not None and failures is not None and retry.max_attempts >= failures:
        yield (
            place_of(checked, path, "breaker"),
            f"the {retry.max_attempts} attempts of one request can be the {failures} failures in a row that open the "
            f"breaker of route {quoted(route.name)} for everybody: fewer max_attempts, or more consecutive_failures",
        )
    for key in ("retry", "breaker", "bulkhead", "fallback", "cache", "invalidate"):
        if policies[key] is not None and policies[key].mode == "shadow" and policies[key].enforce_percent < 1:
            yield place_of(checked, path, key), "`enforce_percent` says nothing in `mode: shadow`"
    steps = fallback.steps if fallback is not None else ()
    if any(step.static or step.file or step.null_fields for step in steps[:-1]):
        yield place_of(checked, path, "fallback"), "what follows a step that always has an answer is never tried"
    own = route.upstream or checked.form.defaults.upstream or next(iter(checked.form.upstreams))
    if any(step.upstream == own for step in steps):
        yield (
            place_of(checked, path, "fallback"),
            f"{quoted(own)} is the upstream that has failed: `retry` asks it again",
        )


def policies_of(checked: Checked, path: Loc, route: RouteForm) -> dict[str, Any]:
    """The route's policies, `defaults` included. Every shared one that it names must be there."""
    return PolicyResolver(checked.form, checked.document, checked.folder, {}).of_route(
        route.name, layers_of(checked, path, route)
    )


def layers_of(checked: Checked, path: Loc, route: RouteForm) -> tuple[Layer, ...]:
    """What the route's policies are made of."""
    return Layer(checked.form.defaults, ("defaults",), "defaults"), Layer(route, path, "route")


def fallback_upstreams(checked: Checked) -> set[str | None]:
    """The upstreams that fallbacks name."""
    forms = [settings.fallback for _, settings in all_settings(checked)]
    return {step.upstream for form in forms if form is not None for step in form.steps}


def all_settings(checked: Checked) -> Iterator[tuple[Loc, RouteSettings]]:
    """`defaults` and the sound routes, with their paths."""
    yield ("defaults",), checked.form.defaults
    yield from checked.routes()


# --- shared policies ------------------------------------------------------------------------------------------------


def _shared(checked: Checked) -> Iterator[Finding]:
    for key in ("breakers", "bulkheads"):
        for name in getattr(checked.form, key) or {}:
            if is_off(name):
                yield (key, name), f"{quoted(name)} means that there is none: choose another name"
    for name, breaker in (checked.form.breakers or {}).items():
        yield from _breaker(("breakers", name), breaker)
    for name, bulkhead in (checked.form.bulkheads or {}).items():
        path: Loc = ("bulkheads", name)
        if name in BULKHEAD_PRESETS:
            yield path, f"{quoted(name)} is the name of a preset, which is not shared: choose another name"
        yield from _bulkhead(checked, path, bulkhead)


def _names(checked: Checked, path: Loc, settings: RouteSettings) -> Iterator[Finding]:
    presets = f"; the presets are {', '.join(BULKHEAD_PRESETS)}"
    for key, more in (("breaker", ""), ("bulkhead", presets)):
        form = getattr(settings, key)
        entries: Mapping[str, Any] = getattr(checked.form, f"{key}s") or {}
        if form is not None and form.use is not None and form.use not in entries:
            where = (*path, key, "use") if checked.document.get((*path, key, "use")) else (*path, key)
            known = f"there are {', '.join(entries)}" if entries else "there are none"
            if (f"{key}s",) not in checked.unsound and (f"{key}s", form.use) not in checked.unsound:
                yield where, f"{shown(checked.document.get(where))} is not an entry of `{key}s`: {known}{more}"


# --- the effective policies of a route ------------------------------------------------------------------------------


def _of_route(checked: Checked, path: Loc, name: str) -> Iterator[Finding]:
    """What is wrong with the policies of a route, `defaults` included; said at the route's key, else at the route."""
    route = next(route for place, route in checked.routes() if place == path)
    layers = layers_of(checked, path, route)
    for key in ("breaker", "bulkhead"):
        entries: Mapping[str, Any] = getattr(checked.form, f"{key}s") or {}
        uses = [form.use for each in layers if (form := getattr(each.settings, key)) is not None and form.use]
        if not entries.keys() >= set(uses):
            return
    policies = policies_of(checked, path, route)
    breaker, retry, bulkhead = policies["breaker"], policies["retry"], policies["bulkhead"]
    if retry is not None:
        yield from _retry(place_of(checked, path, "retry"), retry)
    if breaker is not None and breaker.name == name:  # a shared one is checked where it is written
        yield from _breaker(place_of(checked, path, "breaker"), breaker)
    if bulkhead is not None and bulkhead.name == name:
        yield from _bulkhead(checked, place_of(checked, path, "bulkhead"), bulkhead)
    for index, limit in enumerate(policies["rate_limit"]):
        yield from _rate_limit(checked, path, index, limit, route.match)
    for key in ("breaker", "bulkhead"):
        policy = policies[key]
        own = all(form is None or form.use is None for each in layers if (form := getattr(each.settings, key)))
        if policy is not None and own and name in (getattr(checked.form, f"{key}s") or {}):
            yield (
                place_of(checked, path, key),
                f"route {quoted(name)} has a {key} of its own, and `{key}s` an entry of that name: rename one of them",
            )


def place_of(checked: Checked, path: Loc, key: str) -> Loc:
    """Where a policy is written for the route at `path`; what it has from the defaults is told at the route."""
    return (*path, key) if checked.document.get((*path, key)) is not None else path


def _breaker(path: Loc, breaker: BreakerConfig) -> Iterator[Finding]:
    if breaker.max_break_duration < breaker.break_duration:
        yield path, "`max_break_duration` is shorter than `break_duration`: the longest break comes last"
    if breaker.consecutive_failures is None and breaker.failure_ratio is None and breaker.slow_call is None:
        yield path, "a breaker without consecutive_failures, failure_ratio and slow_call never opens: leave one of them"


def _bulkhead(checked: Checked, path: Loc, bulkhead: BulkheadConfig) -> Iterator[Finding]:
    workers = checked.form.server.workers
    if bulkhead.max_concurrent < workers:
        yield (
            path,
            f"max_concurrent {bulkhead.max_concurrent} cannot be divided among {workers} workers: "
            "raise it, or have fewer `server.workers`",
        )
    is_written = "min_concurrent" in bulkhead.model_fields_set
    if bulkhead.adaptive and is_written and bulkhead.min_concurrent > bulkhead.max_concurrent:
        yield path, "`min_concurrent` is larger than `max_concurrent`"


def _retry(path: Loc, retry: RetryConfig) -> Iterator[Finding]:
    if retry.max_delay < retry.base_delay:
        longest = format_duration(retry.max_delay)
        yield path, f"`base_delay` is longer than `max_delay` ({longest}): the longest delay comes last"


def _rate_limit(
    checked: Checked, path: Loc, index: int, limit: RateLimitConfig, matches: tuple[str, ...]
) -> Iterator[Finding]:
    where = checked.document.existing((*place_of(checked, path, "rate_limit"), index))
    burst = limit.rate.count if limit.burst is None else limit.burst
    if limit.cost > burst:
        yield where, f"`cost` {limit.cost} is more than the burst of {burst}: no request could ever pass"
    if burst * limit.rate.period / limit.rate.count > _LONGEST_BURST:
        yield where, f"a burst of {burst} at {limit.rate} is never there again: make it smaller, or the rate higher"
    for key in limit.key:
        missing = [match for match in matches if key.kind == "param" and f"{{{key.name}}}" not in match]
        if missing:
            yield where, f"{missing[0]} has no parameter {{{key.name}}} for the key {key}"


# --- fallback -------------------------------------------------------------------------------------------------------


def _fallback(checked: Checked, path: Loc, settings: RouteSettings) -> Iterator[Finding]:
    if settings.fallback is None:
        return
    for index, step in enumerate(settings.fallback.steps):
        where = checked.document.existing((*path, "fallback", "steps", index))
        if step.upstream is not None and step.upstream not in checked.form.upstreams:
            if ("upstreams", step.upstream) not in checked.unsound:
                known = ", ".join(checked.form.upstreams)
                name = shown(checked.document.get((*where, "upstream")))
                yield where, f"{name} is not the name of an upstream: there are {known}"
        elif step.file is not None and (problem := _file_problem(checked, step.file.path)):
            yield where, problem


def _file_problem(checked: Checked, name: str) -> str:
    file = checked.folder / name
    try:
        with file.open("rb") as opened:
            if len(opened.read(_MAX_FILE + 1)) > _MAX_FILE:
                return f"{quoted(str(file))} is larger than 1MiB, the limit for a fallback"
    except OSError as error:
        return f"cannot read {quoted(str(file))}: {error.strerror}"
    return ""
