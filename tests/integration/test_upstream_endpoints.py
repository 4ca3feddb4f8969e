"""Several endpoints: who gets what, who is left out, and who comes back."""

import asyncio

import pytest

from proxy.config.model import Ejection, HealthCheck
from proxy.errors import ConnectionRefused, UpstreamTimeout
from tests.support.steps import Gate, close, delay, hang, reply, send
from tests.support.upstream import ScriptedUpstream, refusing_port
from tests.support.upstream_client import client_for
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_loops

CHECK = HealthCheck(path="/health", interval=0.02, timeout=0.2, unhealthy_after=2, healthy_after=2)


async def test_work_is_spread() -> None:
    async with ScriptedUpstream() as one, ScriptedUpstream() as two, client_for(one.url, two.url) as client:
        for number in range(60):
            await client.fetch(f"/{number}")

    assert min(len(one.requests), len(two.requests)) >= 15


async def test_the_less_loaded_endpoint_is_preferred() -> None:
    gate = Gate()
    async with ScriptedUpstream() as one, ScriptedUpstream() as two, client_for(one.url, two.url) as client:
        one.on("/held", gate, reply(200))
        two.on("/held", gate, reply(200))
        held = asyncio.ensure_future(client.fetch("/held"))
        await gate.reached.wait()
        for _ in range(10):
            await client.fetch("/free")
        gate.open()
        await held

    busy, free = (one, two) if one.hits("/held") else (two, one)
    assert (busy.hits("/free"), free.hits("/free")) == (0, 10)


async def test_endpoint_that_keeps_failing_is_left_out() -> None:
    ejection = Ejection(consecutive_failures=3, duration=60.0)
    async with ScriptedUpstream() as good, ScriptedUpstream() as bad:
        bad.on("*", reply(503))
        async with client_for(good.url, bad.url, ejection=ejection) as client:
            for _ in range(40):
                await client.fetch()
            states = {each.endpoint: each.state for each in client.upstream.snapshot()}

    assert len(bad.requests) == 3
    assert states == {good.url: "healthy", bad.url: "ejected"}
    assert [(event.endpoint, event.state) for event in client.observer.endpoints] == [(bad.url, "ejected")]


async def test_ejected_endpoint_comes_back() -> None:
    ejection = Ejection(consecutive_failures=1, duration=0.05, max_duration=1.0)
    async with ScriptedUpstream() as good, ScriptedUpstream() as bad:
        bad.on("*", reply(500), times=1)
        async with client_for(good.url, bad.url, ejection=ejection) as client:
            async with asyncio.timeout(10):
                while not bad.requests:
                    await client.fetch()
                while len(bad.requests) < 2:
                    await client.fetch()
                    await asyncio.sleep(0.01)
            assert {each.state for each in client.upstream.snapshot()} == {"healthy"}

    assert [event.state for event in client.observer.endpoints] == ["ejected", "restored"]


async def test_connect_errors_and_timeouts_count_as_failures() -> None:
    ejection = Ejection(consecutive_failures=2, duration=60.0)
    with refusing_port() as port:
        bad = f"http://127.0.0.1:{port}"
        async with ScriptedUpstream() as good, client_for(good.url, bad, ejection=ejection) as client:
            results = await asyncio.gather(*(client.fetch() for _ in range(40)), return_exceptions=True)
            after = await asyncio.gather(*(client.fetch() for _ in range(20)))

    assert any(isinstance(result, ConnectionRefused) for result in results)
    assert {status for status, _ in after} == {200}


async def test_the_last_endpoint_is_never_left_out() -> None:
    async with ScriptedUpstream() as only, client_for(only.url, ejection=Ejection(consecutive_failures=1)) as client:
        only.on("*", reply(500))
        for _ in range(5):
            assert (await client.fetch())[0] == 500

    assert client.observer.endpoints == []


async def test_a_client_that_leaves_says_nothing_about_the_endpoint() -> None:
    ejection = Ejection(consecutive_failures=1)
    async with ScriptedUpstream() as one, ScriptedUpstream() as two:
        one.on("*", hang())
        two.on("*", hang())
        async with client_for(one.url, two.url, ejection=ejection) as client:
            for _ in range(4):
                task = asyncio.ensure_future(client.fetch())
                await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            with pytest.raises(UpstreamTimeout):
                await client.fetch(total=0.05)

    assert [event.state for event in client.observer.endpoints] == ["ejected"]


# --- active checks ---


async def test_checks_take_an_endpoint_out_and_bring_it_back() -> None:
    async with ScriptedUpstream() as one, ScriptedUpstream() as two:
        two.on("/health", reply(500), times=4)
        async with client_for(one.url, two.url, health=CHECK) as client:
            client.upstream.start()
            down = await client.observer.wait_for_endpoint("unhealthy")
            for _ in range(10):
                await client.fetch("/work")
            assert two.hits("/work") == 0
            up = await client.observer.wait_for_endpoint("healthy")

    assert (down.endpoint, down.reason) == (two.url, "status 500")
    assert (up.endpoint, up.reason) == (two.url, "ok")
    request = one.requests[0]
    assert (request.method, request.target, request.header("Connection")) == ("GET", "/health", "close")


async def test_redirects_are_healthy_and_checks_use_the_configured_host() -> None:
    async with ScriptedUpstream() as one, client_for(one.url, health=CHECK, host="api.internal") as client:
        one.on("/health", reply(302))
        client.upstream.start()
        client.upstream.start()
        await one.wait_for_requests(4)

    assert client.observer.endpoints == []
    assert one.requests[0].header("Host") == "api.internal"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (hang(), "no answer in time"),
        (close(), "status 0"),
        (send(b"SSH-2.0-x\r\n"), "status 0"),
        (send(b"x" * 5000), "status 0"),
        (delay(5.0), "no answer in time"),
    ],
)
async def test_what_unhealthy_means(answer: object, reason: str) -> None:
    async with ScriptedUpstream() as one:
        one.on("/health", answer)  # type: ignore[arg-type]
        async with client_for(one.url, health=CHECK) as client:
            client.upstream.start()
            event = await client.observer.wait_for_endpoint("unhealthy")

            assert event.reason == reason
            assert client.upstream.snapshot()[0].last_check == reason
            assert (await client.fetch("/work"))[0] == 200  # the only endpoint there is


async def test_refused_check_names_the_error() -> None:
    with refusing_port() as port:
        async with client_for(f"http://127.0.0.1:{port}", health=CHECK) as client:
            client.upstream.start()
            assert (await client.observer.wait_for_endpoint("unhealthy")).reason == "connection-refused"


async def test_when_all_are_unhealthy_all_are_used() -> None:
    async with ScriptedUpstream() as one, ScriptedUpstream() as two:
        one.on("/health", reply(500))
        two.on("/health", reply(500))
        async with client_for(one.url, two.url, health=CHECK) as client:
            client.upstream.start()
            await eventually(lambda: {each.state for each in client.upstream.snapshot()} == {"unhealthy"})
            for _ in range(20):
                assert (await client.fetch("/work"))[0] == 200

    assert min(one.hits("/work"), two.hits("/work")) > 0
