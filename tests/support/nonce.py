"""Proof that no exchange is crossed, lost, doubled or cut: signed nonces from the client to the upstream and back.

Every request carries X-Nonce, X-User and X-Seq. The upstream answers what it saw of them, with the method and target
and the SHA-256 of the request body, in a header *and* in the body, and signs the body with an HMAC. At the end three
sets are reconciled: sent, answered, executed.
"""

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from tests.support.messages import ReceivedRequest, Response

_KEY = b"shared by the two ends of a test, unknown to the proxy"
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


def answer(request: ReceivedRequest) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body with which the upstream proves what it saw."""
    seen = {
        "nonce": request.header("X-Nonce") or "",
        "user": request.header("X-User") or "",
        "seq": request.header("X-Seq") or "",
        "line": f"{request.method} {request.target}",
        "body_sha256": request.body_sha256.hexdigest(),
    }
    also = {
        "method": request.method,
        "target": request.target,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers],
        "body_length": request.body_length,
    }
    body = json.dumps({"seen": seen, **also}).encode()
    return [("Content-Type", "application/json"), ("X-Seen", json.dumps(seen)), ("X-Proof", sign(body))], body


def sign(body: bytes) -> str:
    """HMAC over an answer's body, hex."""
    return hmac.new(_KEY, body, "sha256").hexdigest()


@dataclass(slots=True)
class Sent:
    """One request as the client sent it, and what came of it."""

    nonce: str
    user: str
    seq: str
    line: str
    body_sha256: str
    outcome: str = "lost"
    """`answered`, `refused` (a status other than 200), `cut` (visibly), `aborted` (by the client) or `lost`."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("X-Nonce", self.nonce), ("X-User", self.user), ("X-Seq", self.seq)]

    @property
    def is_idempotent(self) -> bool:
        return self.line.partition(" ")[0] in _IDEMPOTENT


@dataclass(slots=True)
class Report:
    """Counts of a run; `violations` must be empty, whatever faults were about."""

    outcomes: Counter[str]
    statuses: Counter[int]
    executed: int
    crossed: list[str] = field(default_factory=list)
    """Answers that belong to another request."""
    lost: list[str] = field(default_factory=list)
    """Requests without answer or visible end, and answers to requests that the upstream never saw."""
    duplicated: list[str] = field(default_factory=list)
    """Non-idempotent requests that the upstream saw more than once."""
    cut: list[str] = field(default_factory=list)
    """Truncated or altered answers that looked complete."""

    @property
    def violations(self) -> list[str]:
        kinds = {"crossed": self.crossed, "lost": self.lost, "duplicated": self.duplicated, "cut": self.cut}
        return [f"{kind}: {what}" for kind, cases in kinds.items() for what in cases]

    @property
    def errors(self) -> int:
        """Requests that failed visibly: must be 0 where nothing was broken on purpose."""
        return self.outcomes["refused"] + self.outcomes["cut"]

    def __str__(self) -> str:
        head = f"{self.outcomes.total()} sent, {self.executed} executed, {dict(self.outcomes)}, {dict(self.statuses)}"
        return "\n".join([head, *self.violations[:20]])


class Ledger:
    """Issues nonces, judges each answer, and reconciles at the end."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._sent: dict[str, Sent] = {}
        self._statuses: Counter[int] = Counter()
        self._crossed: list[str] = []
        self._cut: list[str] = []

    def issue(self, method: str, target: str, body: bytes = b"") -> Sent:
        """Enter a request that is about to be sent; it counts as lost until its outcome is set."""
        sent = Sent(
            nonce=f"{self._random.getrandbits(128):032x}",
            user=f"user-{self._random.randrange(20)}",
            seq=str(len(self._sent)),
            line=f"{method} {target}",
            body_sha256=hashlib.sha256(body).hexdigest(),
        )
        self._sent[sent.nonce] = sent
        return sent

    def judge(self, sent: Sent, response: Response) -> None:
        """Set the outcome of a request that got an answer, complete or visibly cut."""
        if response.complete:
            self._statuses[response.status] += 1
        if not response.complete:
            sent.outcome = "cut"
        elif response.status != 200:
            sent.outcome = "refused"
        else:
            sent.outcome = "answered"
            self._compare(sent, response)

    def reconcile(self, executed: Iterable[ReceivedRequest]) -> Report:
        """Lay what was sent and answered beside what the upstream received."""
        hits = Counter(request.header("X-Nonce") or "" for request in executed)
        all_sent = self._sent.values()
        report = Report(Counter(sent.outcome for sent in all_sent), self._statuses, hits.total())
        report.crossed, report.cut = self._crossed, self._cut
        for sent in all_sent:
            if sent.outcome == "lost" or (sent.outcome == "answered" and not hits[sent.nonce]):
                report.lost.append(f"{sent}, seen {hits[sent.nonce]} times")
            if hits[sent.nonce] > 1 and not sent.is_idempotent:
                report.duplicated.append(f"{sent}, seen {hits[sent.nonce]} times")
        report.crossed += [f"unknown nonce {nonce!r} at the upstream" for nonce in hits.keys() - self._sent.keys()]
        return report

    def _compare(self, sent: Sent, response: Response) -> None:
        if response.header("X-Proof") != sign(response.body):
            self._cut.append(f"{sent}, {len(response.body)} bytes")
            return
        expected = {
            "nonce": sent.nonce,
            "user": sent.user,
            "seq": sent.seq,
            "line": sent.line,
            "body_sha256": sent.body_sha256,
        }
        for seen in (json.loads(response.header("X-Seen") or "{}"), response.json()["seen"]):
            if seen != expected:
                self._crossed.append(f"{sent} got {seen}")
