"""The rate limiter against leaky buckets in exact fractions, through requests, pauses and reloads in any order."""

from bisect import bisect_right
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.config.policies import RateLimitConfig
from proxy.config.policy_types import Rate
from proxy.resilience.gcra import Gcra
from proxy.resilience.limit_table import LimitTable
from proxy.resilience.limiter import LimiterState

KEYS = st.sampled_from([b"a", b"b", b"c"])
START = 5000
"""Milliseconds. All times are whole ones, so that floating point and fractions differ by more than rounding or not at
all."""


@st.composite
def limits(draw: st.DrawFn) -> RateLimitConfig:
    burst = draw(st.integers(1, 20))
    return RateLimitConfig(
        rate=Rate(draw(st.sampled_from([1, 2, 3, 7, 20, 60, 500])), draw(st.sampled_from([1.0, 10.0, 60.0]))),
        burst=burst,
        cost=draw(st.integers(1, min(burst, 3))),
    )


class Buckets:
    """Leaky buckets by client: each request pours in its cost, one unit leaks out each interval."""

    def __init__(self) -> None:
        self.levels: dict[bytes, Fraction] = {}
        self.at: Fraction = Fraction(START, 1000)

    def reload(self, limit: RateLimitConfig, before: RateLimitConfig | None) -> None:
        self.interval = Fraction(limit.rate.period) / limit.rate.count
        self.size, self.cost = limit.burst or limit.rate.count, limit.cost
        if before is not None:  # what is in a bucket takes as long to leak out as before, or until the new one is empty
            old = Fraction(before.rate.period) / before.rate.count
            full, change = Fraction(self.size), old / self.interval
            self.levels = {key: min(level * change, full) for key, level in self.levels.items()}

    def pass_time(self, seconds: Fraction) -> None:
        self.levels = {key: max(level - seconds / self.interval, Fraction(0)) for key, level in self.levels.items()}

    def has_room(self, key: bytes) -> bool:
        return self.levels.get(key, Fraction(0)) + self.cost <= self.size

    def pour(self, key: bytes) -> None:
        self.levels[key] = self.levels.get(key, Fraction(0)) + self.cost

    def remaining(self, key: bytes) -> int:
        return int((self.size - self.levels.get(key, Fraction(0))) // self.cost)

    def wait(self, key: bytes) -> Fraction:
        return (self.levels.get(key, Fraction(0)) + self.cost - self.size) * self.interval


class Limiter(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.milliseconds = START

    @property
    def now(self) -> float:
        return self.milliseconds / 1000

    @initialize(configs=st.lists(limits(), min_size=1, max_size=3))
    def start(self, configs: list[RateLimitConfig]) -> None:
        self.configs = configs
        self.state = LimiterState(tuple(configs), self.now)
        self.model = [Buckets() for _ in configs]
        for buckets, config in zip(self.model, configs, strict=True):
            buckets.reload(config, None)

    @rule(milliseconds=st.one_of(st.integers(1, 100), st.integers(1, 120_000)))
    def wait(self, milliseconds: int) -> None:
        self.milliseconds += milliseconds
        for buckets in self.model:
            buckets.pass_time(Fraction(milliseconds, 1000))

    @rule(data=st.data(), times=st.integers(1, 5))
    def ask(self, data: st.DataObject, times: int) -> None:
        keys = [data.draw(KEYS) for _ in self.configs]
        for _ in range(times):
            self.ask_once(keys)

    def ask_once(self, keys: list[bytes]) -> None:
        pairs = list(zip(self.model, keys, strict=True))

        allowed, index, remaining, seconds = self.state.take(keys, self.now)

        assert allowed == all(buckets.has_room(key) for buckets, key in pairs)
        if allowed:
            for buckets, key in pairs:
                buckets.pour(key)
            assert remaining == min(buckets.remaining(key) for buckets, key in pairs)
            assert remaining == self.model[index].remaining(keys[index])
        else:
            assert abs(seconds - max(buckets.wait(key) for buckets, key in pairs)) < 1e-4
            assert not self.model[index].has_room(keys[index])

    @rule(data=st.data())
    def reload(self, data: st.DataObject) -> None:
        configs = [data.draw(limits()) for _ in self.configs]
        self.state.reconfigure(tuple(configs), self.now)
        for buckets, config, before in zip(self.model, configs, self.configs, strict=True):
            buckets.reload(config, before)
        self.configs = configs

    @invariant()
    def nobody_waits_longer_than_a_whole_burst(self) -> None:
        for key in (b"a", b"b", b"c"):
            for reset, config in zip(self.state.resets([key] * len(self.configs), self.now), self.configs, strict=True):
                assert reset <= config.rate.period * (config.burst or 0) / config.rate.count + 1e-5


TestLimiter = Limiter.TestCase
TestLimiter.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(limits(), st.lists(st.integers(0, 3000), min_size=1, max_size=200))
def test_no_window_lets_more_pass_than_burst_and_rate(limit: RateLimitConfig, pauses: list[int]) -> None:
    state, now, passed = LimiterState((limit,), 0.0), 1.0, list[float]()
    for pause in pauses:
        now += pause / 1000
        if state.take((b"a",), now)[0]:
            passed.append(now)

    interval = limit.rate.period / limit.rate.count
    for index, begin in enumerate(passed):
        for window in (interval, 1.0, 60.0):
            count = bisect_right(passed, begin + window) - index
            assert count * limit.cost <= (limit.burst or 0) + window / interval + 1e-3


@settings(deadline=None)
@given(
    st.integers(4, 40),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20_000), st.integers(0, 2000)), max_size=300),
)
def test_table_is_a_dict_that_forgets_only_what_is_over_or_must_go(
    capacity: int, writes: list[tuple[int, int, int]]
) -> None:
    now, expected = 100.0, dict[bytes, float]()
    table = LimitTable(capacity, now)
    for number, ahead, pause in writes:
        now += pause / 100
        key = b"%d" % number
        table.put(key, now + ahead / 100, now)
        expected[key] = now + ahead / 100

        assert len(table) <= capacity
        assert table.get(key) == expected[key]
        found = {each: arrival for each in expected if (arrival := table.get(each)) > now}
        assert found.items() <= expected.items()
        alive = {each for each, arrival in expected.items() if arrival > now}
        if len(expected) <= capacity:
            assert found.keys() == alive
        expected = {each: arrival for each, arrival in expected.items() if each in found or arrival <= now}


@given(st.integers(1, 10_000), st.integers(1, 1000), st.integers(1, 100))
def test_whole_burst_passes_on_any_clock(uptime_hours: int, burst: int, count: int) -> None:
    gcra, now = Gcra(1 / count, burst), uptime_hours * 3600.1
    table = LimitTable(10, now)

    passed = sum(table.advance(b"a", gcra.increment, gcra.ceiling, now) <= gcra.ceiling for _ in range(burst + 1))

    assert passed == burst
