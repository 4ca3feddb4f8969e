"""Which endpoint of an upstream gets an exchange, and which one is left out for a while. No clock of its own."""

from collections.abc import Callable, Sequence
from math import inf

from proxy.config.model import Ejection
from proxy.config.types import UpstreamUrl
from proxy.upstream.dial import Dialer
from proxy.upstream.pool import Pool


class Endpoint:
    """One address of an upstream and what is known about it. Times are loop time."""

    __slots__ = (
        "authority",
        "dialer",
        "ejected_until",
        "ejections",
        "failures",
        "healthy",
        "last_check",
        "name",
        "pool",
    )

    def __init__(self, url: UpstreamUrl, dialer: Dialer, pool: Pool) -> None:
        self.name = str(url)
        self.authority = url.authority.encode("ascii")
        """For the Host field."""
        self.dialer = dialer
        self.pool = pool
        self.healthy = True
        """By its active checks; endpoints are trusted until these say otherwise."""
        self.last_check = ""
        """Result of the last active check, for people."""
        self.failures = 0
        """Failed attempts in a row."""
        self.ejections = 0
        """Ejections in a row."""
        self.ejected_until = 0.0
        """End of the ejection, also of the last one when it is over."""

    def state(self, now: float) -> str:
        """`healthy`, `unhealthy` or `ejected`."""
        if not self.healthy:
            return "unhealthy"
        return "ejected" if now < self.ejected_until else "healthy"

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} healthy={self.healthy} failures={self.failures} {self.pool!r}>"


Report = Callable[[Endpoint, str, str], None]
"""Told of each transition: the endpoint, its new state, the reason."""


class Endpoints:
    """The endpoints of one upstream. `random` returns numbers in [0, 1).

    When none is in service, all are used: what is known about them may be wrong, and refusing everything would make
    sure that it fails.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], ejection: Ejection | None, random: Callable[[], float], report: Report
    ) -> None:
        self._all = list(endpoints)
        self._ejection = ejection
        self._random = random
        self._report = report
        self._in_service = self._all
        self._next_return = inf

    def choose(self, now: float) -> Endpoint:
        """The less loaded of two that are picked at random."""
        if now >= self._next_return:
            self._refresh(now)
        endpoints = self._in_service
        count = len(endpoints)
        if count == 1:
            return endpoints[0]
        first = int(self._random() * count)
        second = int(self._random() * (count - 1))
        second += second >= first
        one, other = endpoints[first], endpoints[second]
        return one if one.pool.load <= other.pool.load else other

    def record(self, endpoint: Endpoint, now: float, *, failed: bool) -> None:
        """An attempt has ended: with a 5xx or an error of the upstream (`failed`), or well."""
        if not failed:
            endpoint.failures = 0
            return
        endpoint.failures += 1
        ejection = self._ejection
        if (
            ejection is not None
            and endpoint.failures >= ejection.consecutive_failures
            and len(self._in_service) > 1
            and endpoint in self._in_service
        ):
            self._eject(endpoint, ejection, now)

    def set_healthy(self, endpoint: Endpoint, healthy: bool, reason: str, now: float) -> None:
        """The active checks have changed their mind."""
        endpoint.healthy = healthy
        self._refresh(now)
        self._report(endpoint, "healthy" if healthy else "unhealthy", reason)

    def _eject(self, endpoint: Endpoint, ejection: Ejection, now: float) -> None:
        before = min(ejection.duration * endpoint.ejections, ejection.max_duration)
        if now - endpoint.ejected_until > before:  # it was well for longer than it had been out
            endpoint.ejections = 0
        endpoint.ejections += 1
        endpoint.ejected_until = now + min(ejection.duration * endpoint.ejections, ejection.max_duration)
        self._refresh(now)
        self._report(endpoint, "ejected", f"{endpoint.failures} failures in a row")

    def _refresh(self, now: float) -> None:
        """Bring back those whose ejection is over, and see who is in service."""
        for endpoint in self._all:
            if self._next_return <= endpoint.ejected_until <= now:
                endpoint.failures = 0
                self._report(endpoint, "restored", "the ejection is over")
        self._in_service = [endpoint for endpoint in self._all if endpoint.state(now) == "healthy"] or self._all
        self._next_return = min((each.ejected_until for each in self._all if each.ejected_until > now), default=inf)

    def __repr__(self) -> str:
        return f"<Endpoints {len(self._in_service)} of {len(self._all)} in service>"
