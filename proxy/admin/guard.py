"""Who may talk to the admin listener: a request must pass every check before its handler runs."""

import hmac

from aiohttp import web

from proxy.config.addresses import as_ip
from proxy.config.model import AdminConfig

_READS = frozenset({"GET", "HEAD"})
_PROBES = frozenset({"/healthz", "/readyz"})
"""Open without a token: the kubelet has none."""


class Guard:
    """Checks the peer's address, Host, token and, for whatever changes something, the origin."""

    def __init__(self, config: AdminConfig) -> None:
        self._listen = config.listen
        self._allow = config.allow
        self._token = config.token.reveal().encode() if config.token else None

    def check(self, request: web.BaseRequest) -> None:
        """Raises HTTPForbidden or HTTPUnauthorized."""
        if self._allow and not self._is_allowed_peer(request.remote):
            raise web.HTTPForbidden(text="This address is not on the allowlist.")
        if not self._is_allowed_host(request.headers.get("Host", "")):
            raise web.HTTPForbidden(text="This Host is not accepted: use localhost or the IP address.")
        if self._token is not None and request.path not in _PROBES and not self._has_token(request):
            raise web.HTTPUnauthorized(
                text="A bearer token is needed.", headers={"WWW-Authenticate": 'Bearer realm="tidegate"'}
            )
        if request.method not in _READS and _is_cross_origin(request):
            raise web.HTTPForbidden(text="Requests from other origins change nothing here.")

    def _is_allowed_peer(self, peer: str | None) -> bool:
        if self._listen.path:
            return True  # the socket's file mode decides
        address = as_ip(peer or "")
        return address is not None and any(address in network for network in self._allow)

    def _is_allowed_host(self, authority: str) -> bool:
        """Against DNS rebinding: no name that somebody else's DNS could point here, unless a token protects us."""
        if self._listen.path or (self._listen.is_public and self._token is not None):
            return True
        host = _host_of(authority)
        is_local_name = host in ("localhost", self._listen.host) or host.endswith(".localhost")
        return bool(host) and (is_local_name or as_ip(host) is not None)

    def _has_token(self, request: web.BaseRequest) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        # As bytes: compare_digest refuses text that is not ASCII.
        given = token.strip().encode("utf-8", "surrogateescape")
        return scheme.lower() == "bearer" and hmac.compare_digest(given, self._token or b"")


def _host_of(authority: str) -> str:
    """The host in lower case, without port or brackets."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()


def _is_cross_origin(request: web.BaseRequest) -> bool:
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return True
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("Host")
