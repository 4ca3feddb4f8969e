"""`tidegate explain`: what would happen to one request, decided by the code that decides about real ones."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from multidict import CIMultiDict

from proxy.config.addresses import WILDCARDS, ListenAddress
from proxy.config.effective import effective
from proxy.config.loader import Loaded
from proxy.config.model import RouteConfig
from proxy.errors import BadRequest, ProxyError
from proxy.exchange import Exchange, Request
from proxy.explain_caching import caching
from proxy.protocol.request_checks import check_authority, check_request
from proxy.routing import Match, Router
from proxy.text_table import aligned
from proxy.upstream.request_head import RequestHeads

_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)

_USUAL = {"mode": "enforce", "enforce_percent": "100%"}
"""What goes without saying of any policy."""

Row = tuple[str, str, str]


class Refused(Exception):
    """The request would not reach the upstream; the message says why, in lines."""


def explain(loaded: Loaded, method: str, url: str, headers: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The lines of the explanation. Raises Refused where Tidegate would answer by itself with an error.

    `url` is a path or absolute; without a Host among `headers` its authority is the Host, else that of the listener.
    """
    target, headers = _message(loaded, url, headers)
    raw_headers = [(_encoded(name), _encoded(value)) for name, value in headers]
    try:
        checked = check_request(method, target, (1, 1), raw_headers, loaded.config.server.limits.max_head)
        check_authority(checked.host, frozenset(loaded.config.server.hosts))
    except ProxyError as error:
        raise Refused(_refusal(error)) from error
    if checked.target == "*":
        yield f"{method} * is about Tidegate itself, which answers it."
        return
    request = Request(method, checked.target, checked.fields, CIMultiDict(headers), authority=checked.host)
    yield from _route(loaded, request)


def _message(loaded: Loaded, url: str, headers: Sequence[tuple[str, str]]) -> tuple[str, Sequence[tuple[str, str]]]:
    """Target and header fields as a client would send them for `url`."""
    absolute = _ABSOLUTE.fullmatch(url)
    authority, target = (absolute[1], absolute[2]) if absolute else (_own_authority(loaded.config.server.listen), url)
    if absolute and not target.startswith("/"):
        target = f"/{target}"
    if not any(name.lower() == "host" for name, _ in headers):
        headers = [("Host", authority), *headers]
    return target, headers


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _own_authority(listen: ListenAddress) -> str:
    if listen.path:
        return "localhost"
    return str(ListenAddress("localhost" if listen.host in WILDCARDS else listen.host, listen.port))


def _refusal(error: ProxyError) -> str:
    allow = f" (Allow: {error.allow})" if error.allow else ""
    return f"{error.status} {error.title}{allow}" + (f": {error.detail}" if error.detail else "")


# --- the route ------------------------------------------------------------------------------------------------------


def _route(loaded: Loaded, request: Request) -> Iterator[str]:
    router = Router([(route, None) for route in loaded.config.routes])
    try:
        match = router.match(request.method, request.path)
        head = _upstream_head(loaded, match, request)
    except ProxyError as error:
        # What has no valid reading is refused for that.
        readings = () if isinstance(error, BadRequest) else _readings(router, request)
        raise Refused("\n".join([_refusal(error), *readings])) from error
    parameters = ", ".join(f"{name} = {value}" for name, value in match.params.items())
    facts = [("route", match.route.name), ("match", ", ".join(match.route.match)), ("parameters", parameters or "-")]
    settings = _Settings(loaded, match.route)
    yield from aligned(facts)
    yield from _readings(router, request)
    yield from ("", "Policies, outermost first", *aligned(settings.policies(), "  "))
    if any(route.cache is not None for route in loaded.config.routes):
        yield from ("", "Cache", *aligned(caching(_exchange(match, request)), "  "))
    yield from ("", "Upstream", *aligned(settings.upstream(), "  "))
    yield from ("", "Sent to the upstream", *(f"  {line}" for line in head))


def _readings(router: Router[None], request: Request) -> Iterator[str]:
    """How servers may read the path, and the route each reading leads to, where there is more than one."""
    outcomes = router.outcomes(request.method, request.path)
    if len(outcomes) > 1:
        yield from ("", "The path can be read in several ways")
        yield from aligned([(path, outcome or "no route") for path, outcome in outcomes.items()], "  ")


def _upstream_head(loaded: Loaded, match: Match[None], request: Request) -> list[str]:
    """Request line and Host, written by the upstream client's own code."""
    upstream = loaded.config.upstreams[match.route.upstream]
    authority = upstream.endpoints[0].authority.encode()
    head = RequestHeads(match.route, upstream.host).build(_exchange(match, request), authority, 0.0)
    return head.decode("utf-8", "replace").split("\r\n")[:2]


def _exchange(match: Match[None], request: Request) -> Exchange:
    exchange = Exchange(request, match.route, 0.0)
    exchange.params = match.params
    return exchange


# --- what applies ---------------------------------------------------------------------------------------------------


class _Settings:
    """The effective values of one route and of its upstream, as rows of name, value and origin."""

    def __init__(self, loaded: Loaded, route: RouteConfig) -> None:
        values = effective(loaded.config)
        self._route = next(each for each in values["routes"] if each["name"] == route.name)
        self._upstream = values["upstreams"][route.upstream]
        self._origins = loaded.origins

    def policies(self) -> list[Row]:
        """In the order of the pipeline; what a route does not have is not listed."""
        route = self._route
        rows = self._edits("response")
        rows += self._listed("rate_limit", route["rate_limit"])
        rows += self._listed("fallback", route["fallback"]["steps"] if "fallback" in route else [])
        rows += self._listed("invalidate", route["invalidate"]["tags"] if "invalidate" in route else [])
        for policy in ("cache", "timeout", "retry", "breaker", "bulkhead"):
            rows += self._keys(policy, route.get(policy, {}))
        if route["criticality"] != "default":
            rows.append(self._row("criticality", route["criticality"]))
        return rows

    def _keys(self, policy: str, values: dict[str, Any]) -> list[Row]:
        origins, route = self._origins, self._route["name"]
        return [
            (f"{policy}.{key}", _text(value), origins.get(("routes", route, f"{policy}.{key}"), ""))
            for key, value in values.items()
            if not _goes_without_saying(key, value)
        ]

    def _listed(self, policy: str, entries: list[dict[str, Any]]) -> list[Row]:
        origin = self._origins.get(("routes", self._route["name"], policy), "")
        return [(policy, _text(entry), origin) for entry in entries]

    def upstream(self) -> list[Row]:
        """Where the request goes, and what changes in it."""
        name = self._upstream["name"]
        keys = ("host", "connect_timeout", "max_connections", "idle_timeout", "max_age")
        rows = [
            self._row("upstream", name),
            ("endpoints", ", ".join(self._upstream["endpoints"]), self._origins["upstreams", name, "endpoints"]),
            *((key, str(self._upstream[key]), self._origins["upstreams", name, key]) for key in keys),
        ]
        if self._route["rewrite"] != "off":
            rows.append(self._row("rewrite", self._route["rewrite"]))
        return rows + self._edits("request")

    def _row(self, key: str, value: str, label: str = "") -> Row:
        return label or key, value, self._origins["routes", self._route["name"], key]

    def _edits(self, direction: str) -> list[Row]:
        edit = self._route["headers"][direction]
        changes = [(name, f"set to {value}") for name, value in edit["set"].items()]
        changes += [(name, "removed") for name in edit["remove"]]
        return [
            self._row(f"headers.{direction}.{name.lower()}", change, f"{direction} header {name}")
            for name, change in changes
        ]


def _goes_without_saying(key: str, value: Any) -> bool:
    return value in ({}, []) or (key in _USUAL and _USUAL[key] == value)


def _text(value: Any) -> str:
    """A value of the effective configuration on one line."""
    if isinstance(value, dict):
        told = [f"{key} {_text(inner)}" for key, inner in value.items() if not _goes_without_saying(key, inner)]
        return ", ".join(told)
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
