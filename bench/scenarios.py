"""What is asked of every target: one row per kind of request."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of request, repeated on `connections` keep-alive connections."""

    name: str
    about: str
    path: str
    status: int = 200
    """The only answer that counts; any other makes the measurement void."""
    method: str = "GET"
    body: int = 0
    """Bytes of request body."""
    connections: int = 32
    standard: bool = True
    """Whether it is measured when no scenario is named."""
    spared: int = 0
    """How many answers of a round may be others: before it refuses, a limit lets somebody through."""
    targets: tuple[str, ...] = ()
    """Who can answer so; empty: all."""

    def suits(self, target: str) -> bool:
        """Whether it is asked of the target of that name."""
        return not self.targets or target in self.targets


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("get", "GET, 1 KiB answer, 32 connections", "/items/1"),
        Scenario("get-1", "GET, 1 KiB answer, 1 connection", "/items/1", connections=1, standard=False),
        Scenario("get-256", "GET, 1 KiB answer, 256 connections", "/items/1", connections=256, standard=False),
        Scenario("post", "POST, 1 KiB up, 1 KiB down, 32 connections", "/items", method="POST", body=1024),
        Scenario("large", "GET, 1 MiB answer, 8 connections", "/large", connections=8),
        Scenario(
            "hit",
            "GET answered from memory, 1 KiB, 32 connections",
            "/items/cached",
            targets=("tidegate", "tidegate-no-lane", "nginx"),
        ),
        Scenario(
            "limited",
            "GET over a rate limit: 429, 32 connections",
            "/items/limited",
            status=429,
            spared=1,
            targets=("tidegate", "tidegate-no-lane", "nginx", "envoy"),
        ),
        Scenario(
            "open",
            "GET with an open breaker: 503, 32 connections",
            "/items/open",
            status=503,
            standard=False,
            spared=1,
            targets=("tidegate", "tidegate-no-lane"),
        ),
        Scenario("unmatched", "GET that no route matches: 404, 32 connections", "/nowhere", status=404),
    )
}
