"""Upstreams that stop dead or fail now and then, behind a breaker (faults D06 and D19)."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.aftermath import assert_problem, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import get
from tests.support.settings import policies
from tests.support.steps import reply
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import WITHIN

pytestmark = pytest.mark.both_loops

TRANSITIONS = "proxy_breaker_transitions_total"
ATTEMPTS = "proxy_upstream_attempts_total"

_SERVER = """
import asyncio, contextlib
async def serve(reader, writer):
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            await reader.readuntil(b"\\r\\n\\r\\n")
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
            await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def server_process() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that can be stopped by a signal, and its port."""
    process = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


# --- D06 ------------------------------------------------------------------------------------------------------------


async def test_d06_stopped_upstream_is_left_alone_but_for_probes_and_comes_back_when_it_goes_on() -> None:
    breaker = {"consecutive_failures": 3, "break_duration": "200ms", "max_break_duration": "400ms"}
    route = {"breaker": breaker, "timeout": {"total": "5s", "attempt": "200ms"}}
    with server_process() as (process, port):
        async with running_app(policies(f"http://127.0.0.1:{port}", route=route)) as app:
            assert (await get(app.port, "/")).status == 200

            process.send_signal(signal.SIGSTOP)
            for _ in range(3):
                assert_problem(await get(app.port, "/"), 504, "http_response_timeout")
            await assert_refused_at_once(app)
            await assert_only_probes_pass(app, rounds=3)

            process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(WITHIN):
                while (await get(app.port, "/")).status != 200:  # noqa: ASYNC110 - nothing here can set an event
                    await asyncio.sleep(0.02)
            assert [(await get(app.port, "/")).status for _ in range(20)] == [200] * 20
            assert await app.metric(TRANSITIONS, to="closed", reason="probes_succeeded") == 1
            await wait_at_rest(app)


async def assert_refused_at_once(app: RunningApp) -> None:
    started = time.monotonic()
    refused = await get(app.port, "/")

    assert_problem(refused, 503, "destination_unavailable")
    assert int(refused.header("Retry-After") or 0) >= 1
    assert time.monotonic() - started < 0.15, "less than an attempt would have taken"


async def assert_only_probes_pass(app: RunningApp, rounds: int) -> None:
    """Under steady load, each break is followed by one attempt, whose failure begins the next break."""
    before = await app.metric(ATTEMPTS)
    async with asyncio.timeout(WITHIN):
        while await app.metric(TRANSITIONS, to="open", reason="probe_failed") < rounds:
            answers = await asyncio.gather(*(get(app.port, "/") for _ in range(8)))
            statuses = [answer.status for answer in answers]
            assert set(statuses) <= {503, 504}
            assert statuses.count(504) <= 1, "one probe at a time"
            await asyncio.sleep(0.02)

    # Between two looks a round may have ended and the next begun.
    probes = await app.metric(TRANSITIONS, to="open", reason="probe_failed")
    assert probes <= await app.metric(ATTEMPTS) - before <= probes + 1


# --- D19 ------------------------------------------------------------------------------------------------------------


async def statuses(breaker: dict[str, Any], pattern: str) -> tuple[list[int], float]:
    """What clients get of an upstream that fails at each `f`, and how often the breaker opened meanwhile."""
    limits = {"consecutive_failures": "off", "sampling_window": "1m", "minimum_throughput": 20, **breaker}
    async with ScriptedUpstream() as upstream:
        upstream.on("/f", reply(500))
        async with running_app(policies(upstream.url, route={"breaker": limits})) as app:
            answers = [await get(app.port, f"/{each}") for each in pattern]
            return [answer.status for answer in answers], await app.metric(TRANSITIONS, to="open")


async def breaker_of(app: RunningApp) -> dict[str, Any]:
    """The only breaker as the admin listener shows it."""
    (breaker,) = (await get(app.admin_port, "/breakers")).json()["breakers"]
    return dict(breaker)


@pytest.mark.parametrize(
    ("ratio", "passed"), [("50%", 20), ("51%", 60)], ids=["reached with the 20th attempt", "never reached"]
)
async def test_d19_alternating_answers_open_the_breaker_where_their_ratio_does(ratio: str, passed: int) -> None:
    found, opened = await statuses({"failure_ratio": ratio}, "sf" * 30)

    assert found == ([200, 500] * 30)[:passed] + [503] * (60 - passed)
    assert opened == (passed < 60)


@pytest.mark.parametrize(("failures", "refused"), [(49, 0), (51, 2)])
async def test_d19_breaker_follows_the_ratio_of_its_window(failures: int, refused: int) -> None:
    """Of 49 successes and 51 failures, the 49th failure makes half of all."""
    found, opened = await statuses({"failure_ratio": "50%"}, "s" * (100 - failures) + "f" * failures)

    assert found.count(503) == refused
    assert opened == (refused > 0)


async def test_d19_successes_in_between_keep_consecutive_failures_from_opening_it() -> None:
    limits = {"consecutive_failures": 2, "failure_ratio": "off"}
    found, opened = await statuses(limits, "sf" * 30)

    assert found == [200, 500] * 30
    assert opened == 0


async def test_d19_failures_that_have_left_the_window_do_not_count() -> None:
    limits = {
        "consecutive_failures": "off",
        "failure_ratio": "50%",
        "sampling_window": "500ms",
        "minimum_throughput": 20,
    }
    async with ScriptedUpstream() as upstream:
        upstream.on("/f", reply(500))
        async with running_app(policies(upstream.url, route={"breaker": limits})) as app:
            for _ in range(19):
                assert (await get(app.port, "/f")).status == 500
            async with asyncio.timeout(WITHIN):
                while (await breaker_of(app))["calls"]:  # noqa: ASYNC110 - nothing here can set an event
                    await asyncio.sleep(0.02)

            assert [(await get(app.port, "/f")).status for _ in range(10)] == [500] * 10
            assert (await get(app.port, "/s")).status == 200
