"""What a cache may send, as one would say it who has read RFC 9111 and knows nothing of how ours is made.

The upstream writes down everything that it says (`Said`), the test everything that changes (`Change`). `Model.judge`
then looks at one answer after the fact and raises AssertionError when no rule allows it. Times are Unix seconds;
`moment` is a count of what has happened, for the order of what happened at the same time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import floor, inf
from typing import Final

from proxy.protocol.caching.stored import Validity

FAILURES: Final = frozenset({500, 502, 503, 504})
_LASTING: Final = ("s-maxage", "must-revalidate", "proxy-revalidate")


def directives_of(control: str) -> dict[str, float]:
    """`max-age=5, no-cache` as names and numbers, infinite without one."""
    found: dict[str, float] = {}
    for member in filter(None, control.replace(" ", "").split(",")):
        name, _, argument = member.partition("=")
        found[name] = float(argument) if argument else inf
    return found


@dataclass(frozen=True)
class Content:
    """What a representation shows; it makes the body and the ETag."""

    target: str
    user: str
    one: str
    """Of X-One, empty where the response does not depend on it."""
    version: int

    @property
    def etag(self) -> str:
        return f'"{self.target}~{self.user}~{self.one}~{self.version}"'

    @classmethod
    def of(cls, etag: str) -> "Content":
        target, user, one, version = etag.strip('"').split("~")
        return cls(target, user, one, int(version))


@dataclass(frozen=True)
class Asked:
    """A request of a client."""

    name: str
    method: str
    target: str
    user: str
    one: str
    control: str
    has_credentials: bool
    moment: int
    at: float
    versions: dict[str, int]
    """What every answer must show at least: the version of each path when the request was sent."""

    @property
    def said(self) -> dict[str, float]:
        return directives_of(self.control)

    @property
    def is_forced(self) -> bool:
        """Whether it wants more than another's answer."""
        return bool(self.said.keys() & {"no-cache", "no-store", "max-age", "min-fresh"})


@dataclass(frozen=True)
class Said:
    """An answer of the upstream: a response, or the word that one still holds."""

    name: str
    asked_by: str
    """The client's request that it was for, in the first place."""
    method: str
    status: int
    content: Content
    control: str
    varies: bool
    age: int
    sets_cookie: bool
    had_credentials: bool
    had_no_store: bool
    moment: int
    """When it was asked."""
    asked_at: float
    came_at: float

    @property
    def directives(self) -> dict[str, float]:
        return directives_of(self.control)

    @property
    def born(self) -> float:
        """When its age was 0 (section 4.2.3)."""
        return self.came_at - (self.age + self.came_at - self.asked_at)


@dataclass(frozen=True)
class Change:
    """A purge, or what a mutation has made outdated."""

    moment: int
    path: str
    """Of what it concerns; empty: everything."""
    target: str
    """One URL alone; empty: all of the path."""
    user: str
    """One user alone; empty: all."""
    validity: Validity
    at: float

    def concerns(self, content: Content) -> bool:
        return (
            (not self.path or content.target.partition("?")[0] == self.path)
            and (not self.target or content.target == self.target)
            and (not self.user or content.user == self.user)
        )


@dataclass(frozen=True)
class Got:
    """An answer as a client got it."""

    status: int
    fields: dict[str, str]
    body: bytes
    moment: int
    at: float

    @property
    def cache_status(self) -> str:
        return self.fields.get("cache-status", "").partition(";")[2]

    @property
    def is_hit(self) -> bool:
        return self.cache_status.startswith("hit")

    @property
    def stands_in(self) -> bool:
        return 'detail="error"' in self.cache_status

    @property
    def is_collapsed(self) -> bool:
        return "collapsed" in self.cache_status

    @property
    def is_validated(self) -> bool:
        """Whether what was stored has been confirmed for it."""
        return "fwd-status=304" in self.cache_status and 'detail="status"' not in self.cache_status


@dataclass
class Model:
    """The route's rules, and all that has happened."""

    per_user: bool = False
    ttl: float = 0.0
    negative_ttl: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    max_gap: float = 10.0
    said: dict[str, Said] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    gaps: list[tuple[int, int | None, float]] = field(default_factory=list)
    """Moments of the beginning and the end, and Unix time of the beginning, of what was not heard of others."""

    # --- the whole judgement ---

    def judge(self, asked: Asked, got: Got) -> None:
        """Whether this may be the answer to that; raises AssertionError."""
        if got.status in FAILURES:
            return self._failure(asked, got)
        if got.is_hit or got.stands_in:
            return self._one_allows(asked, got, self._goes_by)
        if got.is_validated:
            return self._one_allows(asked, got, self._is_confirmed)
        if got.is_collapsed:
            return self._one_allows(asked, got, self._is_collapsed)
        return self._own(asked, got)

    def _own(self, asked: Asked, got: Got) -> None:
        """What the upstream has said to this very request."""
        assert "fwd=" in got.cache_status
        assert any(each.asked_by == asked.name for each in self.said.values())
        if "x-said" in got.fields:
            assert self.said[got.fields["x-said"]].asked_by == asked.name
        self._shows(asked, got)

    def _failure(self, asked: Asked, got: Got) -> None:
        said = self.said[got.fields.get("x-said") or got.fields["x-confirmed"]]
        assert said.status == got.status
        if said.asked_by != asked.name:
            assert got.is_collapsed
            assert not said.had_credentials
            assert not asked.has_credentials
            assert not said.control
            assert not said.sets_cookie

    def _one_allows(self, asked: Asked, got: Got, rule: Callable[[Asked, Got, Content, Said], None]) -> None:
        """A 304 does not tell which word of the upstream it goes by: one that allows it will do."""
        content, broken = self._shows(asked, got), []
        for word in self._words(got, content):
            try:
                return rule(asked, got, content, word)
            except AssertionError as error:
                broken.append(str(error) or repr(error))
        raise AssertionError(f"nothing allows {got} for {asked}: {broken}")

    def _goes_by(self, asked: Asked, got: Got, content: Content, word: Said) -> None:
        assert self._is_storable(word), f"{word} may not be stored"
        assert got.fields["age"] == str(max(floor(got.at - word.born), 0)), f"{got.fields['age']} is not its age"
        until = got.moment if got.stands_in else asked.moment
        validity, softened_at = self._validity(content, word, until)
        assert validity < Validity.INVALID, f"it has changed since {word}"
        stale = self._staleness(word, validity, softened_at, got.at)
        assert "no-cache" not in word.directives, "never without validation"
        if "ttl=" in got.cache_status:
            ttl = int(got.cache_status.partition("ttl=")[2].partition(";")[0])
            assert (ttl < 0) == (stale > 0) or ttl == floor(-stale), f"{got.cache_status}, stale for {stale}"
        if got.stands_in:
            assert self._may_stand_in(asked, word, stale), f"stale for {stale}"
        else:
            self._is_heard(word, asked.moment, got.at)
            assert self._may_be_sent(asked, word, stale, got.at), f"{word}, stale for {stale}"

    def _is_confirmed(self, asked: Asked, got: Got, content: Content, word: Said) -> None:
        """The upstream has confirmed it for this request, or for one that it has waited with."""
        assert word.status == 304, "no confirmation"
        assert word.content == content, "of another"
        self._is_shared(asked, got, word)
        if got.status != 304:
            base = self.said[got.fields["x-said"]]
            assert self._is_storable(base), "it may not be stored"
            self._is_not_gone(base, word.moment)

    def _is_collapsed(self, asked: Asked, got: Got, content: Content, word: Said) -> None:
        assert self._is_storable(word), "it may not be stored"
        self._is_shared(asked, got, word)
        assert got.fields["age"] == str(max(floor(got.at - word.born), 0)), f"{got.fields['age']} is not its age"

    def _is_shared(self, asked: Asked, got: Got, word: Said) -> None:
        """Of what another request has brought."""
        if word.asked_by == asked.name:
            assert not got.is_collapsed, "its own"
            return
        assert got.is_collapsed, "another's"
        assert not asked.is_forced, "another's will not do"
        assert self._is_storable(word), "it may not be stored"
        crossed = [each for each in self.changes if word.moment < each.moment <= asked.moment]
        assert not any(each.concerns(word.content) for each in crossed), "it was fetched before a change"

    # --- what an answer is made of ---

    def _shows(self, asked: Asked, got: Got) -> Content:
        """What it shows is what was asked for, and not older than what others know already."""
        if got.status == 304:
            content = Content.of(got.fields["etag"])
        else:
            content = self.said[got.fields.get("x-said") or got.fields["x-confirmed"]].content
            if asked.method == "GET":
                assert got.body == content.etag.encode()
        assert content.target == asked.target
        assert content.user in ("", asked.user)
        if "x-one" in got.fields.get("vary", "").lower():
            assert content.one == asked.one, "another variant"
        path = content.target.partition("?")[0]
        assert content.version >= asked.versions.get(path, 0), "older than a change"
        return content

    def _word(self, got: Got) -> Said:
        """The last that the upstream has said of it."""
        return self.said[got.fields.get("x-confirmed") or got.fields["x-said"]]

    def _words(self, got: Got, content: Content) -> list[Said]:
        """What it may go by."""
        if got.status == 304:
            return [each for each in self.said.values() if each.content == content and each.status in (200, 304)]
        return [self._word(got)]

    def _is_storable(self, word: Said) -> bool:
        """Section 3."""
        said = word.directives
        if word.status not in (200, 304, 404) or "no-store" in said or word.had_no_store or word.sets_cookie:
            return False
        if self.per_user:
            return True
        if "private" in said:
            return False
        return not word.had_credentials or bool(said.keys() & {"public", "s-maxage", "must-revalidate"})

    def is_fresh_at_first(self, word: Said) -> bool:
        """Whether a cache that does its work has it for the next request."""
        return self._is_storable(word) and "no-cache" not in word.directives and self._lifetime(word) > word.age

    # --- freshness ---

    def _lifetime(self, word: Said) -> float:
        """Section 4.2.1."""
        said = word.directives
        for name in ("s-maxage", "max-age"):
            if name in said:
                return said[name]
        return self.negative_ttl if word.status == 404 else self.ttl

    def _staleness(self, word: Said, validity: Validity, softened_at: float, now: float) -> float:
        """Seconds since its freshness has ended; below 0 while it lasts."""
        stale = now - word.born - self._lifetime(word)
        return max(stale, now - softened_at, 1e-9) if validity is Validity.SOFT else stale

    def _validity(self, content: Content, word: Said, until: int) -> tuple[Validity, float]:
        """What has become of it between the time it was asked for and `until`."""
        since = [each for each in self.changes if word.moment < each.moment <= until and each.concerns(content)]
        worst = max((each.validity for each in since), default=Validity.VALID)
        return worst, max((each.at for each in since if each.validity is Validity.SOFT), default=0.0)

    def _is_not_gone(self, base: Said, until: int) -> None:
        since = [each for each in self.changes if base.moment < each.moment <= until and each.concerns(base.content)]
        assert all(each.validity is not Validity.GONE for each in since), "what is gone is not even validated"

    def _is_heard(self, word: Said, moment: int, now: float) -> None:
        """During a gap nothing is used for longer than `max_gap`."""
        for begin, end, since in self.gaps:
            if begin <= moment and (end is None or moment < end):
                assert now < max(since, word.came_at) + self.max_gap, "nothing is heard of changes"

    def _window(self, word: Said, name: str, configured: float) -> float:
        said = word.directives
        if said.keys() & {*_LASTING, "no-cache"}:
            return 0.0
        return said.get(name, configured)

    def _may_be_sent(self, asked: Asked, word: Said, stale: float, now: float) -> bool:
        """Sections 4.2.4 and 5.2.1, RFC 5861 section 3."""
        said = asked.said
        age = now - word.born
        if "no-cache" in said or -stale < said.get("min-fresh", -inf):
            return False
        too_old = "max-age" in said and (said["max-age"] == 0 or age > said["max-age"])
        if stale < 0:
            return not too_old
        if word.directives.keys() & set(_LASTING):
            return False
        if "max-stale" in said:
            return stale <= said["max-stale"] and not too_old
        window = self._window(word, "stale-while-revalidate", self.stale_while_revalidate)
        return "max-age" not in said and 0 < window >= stale

    def _may_stand_in(self, asked: Asked, word: Said, stale: float) -> bool:
        """RFC 5861 section 4."""
        own = asked.said.get("stale-if-error")
        if "no-cache" in asked.said and own is None:
            return False
        if stale < 0:
            return True
        if word.directives.keys() & set(_LASTING):
            return False
        return stale <= (self._window(word, "stale-if-error", self.stale_if_error) if own is None else own)
