"""What became of the requests of one phase."""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from bench.cache_mix_client import BROKEN, Answer
from bench.cache_mix_truth import Lag, Truth, revision_in
from bench.cache_mix_workload import Ask

_MOST_EXAMPLES = 5


class Upstream(NamedTuple):
    """What the upstream counts."""

    requests: int = 0
    queries: int = 0

    def since(self, before: "Upstream") -> "Upstream":
        """What has come since."""
        return Upstream(self.requests - before.requests, self.queries - before.queries)


class Tally:
    """Counts of one phase; what is wrong is kept by example."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds = 0.0
        self.upstream = Upstream()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """By kind of request, and what the cache did: memory, redis, stale, collapsed, revalidated, miss."""
        self.errors = 0
        self.wrong = 0
        """Answers that are not what was asked for."""
        self.own_lag = 0.0
        self.others_lag = 0.0
        self.outdated_own = 0
        self.outdated_others = 0
        self.examples: list[str] = []
        self.took = array("d")
        """Seconds of each read."""

    def record(self, ask: Ask, answer: Answer, truth: Truth, instance: int) -> None:
        """One request has been answered, or not."""
        self.outcomes[ask.kind, _outcome(answer.cache_status)] += 1
        if answer.status != 200:
            self.errors += 1
            said = "no answer" if answer.status == BROKEN else f"{answer.status} {answer.body[:300].decode()}"
            self._example(f"{ask.method} {ask.target}: {said}")
        elif ask.kind != "write":
            self.took.append(answer.answered - answer.asked)
            self._check(ask, answer, truth, instance)

    def _check(self, ask: Ask, answer: Answer, truth: Truth, instance: int) -> None:
        if ask.kind == "search":  # a write does not end searches, says the policy
            return
        content = orjson.loads(answer.body)
        items = [content] if ask.kind == "detail" else content["items"]
        if ask.number and ask.number not in [item["id"] for item in items]:
            self.wrong += 1
            self._example(f"{ask.target}: without {ask.number}")
        for item in items:
            lag = truth.lag(item["id"], revision_in(item["description"]), instance, answer.asked)
            if lag.own or lag.others:
                self._outdated(ask, answer, lag)

    def _outdated(self, ask: Ask, answer: Answer, lag: Lag) -> None:
        self.own_lag = max(self.own_lag, lag.own)
        self.others_lag = max(self.others_lag, lag.others)
        self.outdated_others += lag.others > 0
        self.outdated_own += lag.own > 0
        if lag.own:
            self._example(
                f"{ask.target}: {lag.own:.3f} s after a write through the same sidecar, {answer.cache_status!r}"
            )
        elif lag.others > 1:
            self._example(f"{ask.target}: {lag.others:.3f} s after a write through another, {answer.cache_status!r}")

    def _example(self, text: str) -> None:
        if len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(text)

    # --- figures ---

    @property
    def requests(self) -> int:
        """All, writes too."""
        return self.outcomes.total()

    @property
    def reads(self) -> int:
        """All but the writes."""
        return self._reads("", ())

    def count(self, *outcomes: str) -> int:
        """Reads with one of these outcomes."""
        return self._reads("", outcomes)

    def hit_ratio(self, kind: str = "") -> float:
        """The share of the reads, or of those of a kind, that needed no upstream: answered from memory or Redis."""
        return self._reads(kind, ("memory", "redis", "stale")) / max(self._reads(kind, ()), 1)

    def _reads(self, kind: str, outcomes: Sequence[str]) -> int:
        """Those of a kind, with one of these outcomes; empty: all."""
        return sum(
            count
            for (its_kind, outcome), count in self.outcomes.items()
            if its_kind != "write" and (not kind or its_kind == kind) and (not outcomes or outcome in outcomes)
        )

    @property
    def asked_of_upstream(self) -> float:
        """Requests at the upstream for each one of a client."""
        return self.upstream.requests / max(self.requests, 1)

    @property
    def queried(self) -> float:
        """Statements at the upstream's database for each request of a client."""
        return self.upstream.queries / max(self.requests, 1)


def _outcome(status: bytes) -> str:
    """What Cache-Status says the cache did."""
    if b";hit" in status:
        if b'detail="redis"' in status:
            return "redis"
        return "stale" if b"ttl=-" in status else "memory"
    if b";collapsed" in status:
        return "collapsed"
    return "revalidated" if b"fwd-status=304" in status else "miss"
