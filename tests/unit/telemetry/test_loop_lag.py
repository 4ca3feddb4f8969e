"""The lag is what a sleep takes beyond its time."""

import pytest

from proxy.telemetry.loop_lag import watch_loop_lag
from tests.support.clock import ManualClock


class Stop(Exception):
    """Ends the endless watch."""


async def test_lag_is_what_a_sleep_takes_beyond_its_time() -> None:
    clock, late = ManualClock(), [0.0, 0.25, -0.001]
    lags: list[float] = []

    async def sleep(seconds: float) -> None:
        if not late:
            raise Stop
        clock.now += seconds + late.pop(0)

    with pytest.raises(Stop):
        await watch_loop_lag(lags.append, clock, sleep)

    assert lags == pytest.approx([0.0, 0.25, 0.0])
