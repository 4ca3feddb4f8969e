"""One picture of several workers, for /readyz and /routes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from proxy.admin.cache_view import NO_ANSWER, CacheStatus, EntryReport, EntryStatus
from proxy.admin.view import Readiness, RouteView
from proxy.app import view_of
from proxy.config.model import Config, RouteConfig
from proxy.policies.caching.warming import WarmProgress
from proxy.telemetry.statistics import summarize
from proxy.workers.child import Child

RECENT_REQUESTS = 1024
"""So many recent durations of a route are looked at, over all workers."""


def readiness_of(children: Sequence[Child], *, draining: bool, digest: str) -> Readiness:
    """Ready while one worker is."""
    states = [child.state for child in children]
    reasons = ["draining"] if draining else [] if "ready" in states else _reasons(children)
    workers = [
        {
            "worker": child.index,
            "pid": child.pid,
            "state": state,
            "config": child.digest,
            "loop_lag": child.pulse["lag"],
        }
        for child, state in zip(children, states, strict=True)
    ]
    upstreams = _upstreams(child.pulse["details"].get("upstreams", {}) for child in children if child.is_up)
    details = {"draining": draining, "config": digest, "upstreams": upstreams, "workers": workers}
    return Readiness(not reasons, tuple(reasons), details)


def routes_of(config: Config, answers: Sequence[Mapping[str, Any]]) -> list[RouteView]:
    """The routes of `config` with what the workers have counted for each."""
    return [_route(route, [answer[route.name] for answer in answers]) for route in config.routes]


def caches_of(answers: Mapping[int, Sequence[Mapping[str, Any]]]) -> list[CacheStatus]:
    """The caches of the workers, which are named by their numbers."""
    return [
        CacheStatus(**{**each, "warm": each["warm"] and WarmProgress(**each["warm"]), "worker": worker})
        for worker, found in answers.items()
        for each in found
    ]


def entries_of(answers: Mapping[int, Mapping[str, Any]]) -> EntryReport:
    """What the workers have stored for one URL; why nothing, if none has."""
    entries = []
    for worker, found in answers.items():
        for each in found["entries"]:
            own = each["level"] == "memory"
            if own or worker == min(answers):  # what is in Redis is there for all of them
                lists = {"vary": tuple(each["vary"]), "tags": tuple(each["tags"])}
                entries.append(EntryStatus(**{**each, **lists, "worker": worker if own else None}))
    first = next(iter(answers.values()), {"route": "", "key": "", "reason": NO_ANSWER})
    return EntryReport(first["route"], first["key"], "" if entries else first["reason"], tuple(entries))


def _reasons(children: Sequence[Child]) -> list[str]:
    told = dict.fromkeys(reason for child in children if child.state == "unready" for reason in child.pulse["reasons"])
    return list(told) or ["no worker is ready"]


def _upstreams(views: Iterable[Mapping[str, Sequence[Mapping[str, str]]]]) -> dict[str, list[dict[str, str]]]:
    """The endpoints' states; one that is out of service for any worker is shown so."""
    states: dict[str, dict[str, str]] = {}
    for view in views:
        for name, endpoints in view.items():
            known = states.setdefault(name, {})
            for each in endpoints:
                if known.get(each["endpoint"], "healthy") == "healthy":
                    known[each["endpoint"]] = each["state"]
    return {name: [{"endpoint": e, "state": state} for e, state in known.items()] for name, known in states.items()}


def _route(route: RouteConfig, counted: Sequence[Mapping[str, Any]]) -> RouteView:
    statuses: Counter[str] = Counter()
    for each in counted:
        statuses.update(each["statuses"])
    recent = [seconds for each in counted for seconds in each["recent"]]
    return view_of(route, sum(each["in_flight"] for each in counted), summarize(statuses, recent))
