"""What the upstream client reports: to metrics, log and admin page."""

from typing import Protocol

from proxy.telemetry.events import EndpointEvent


class UpstreamObserver(Protocol):
    """Told of every attempt, connection and change of an endpoint. Its methods must not raise."""

    def attempt(self, outcome: str, seconds: float) -> None:
        """An attempt has its response head (`2xx` to `5xx`) or has failed (the error's RFC 9209 token)."""
        ...

    def connection(self, event: str) -> None:
        """`opened`, `reused`, `closed`, `failed` when it could not be opened, `surplus` when it spoke unasked."""
        ...

    def endpoint(self, event: EndpointEvent) -> None:
        """An endpoint came into or went out of service."""
        ...
