"""The service behind the sidecar loses a part of itself: what its users get in the meantime, on the real stub."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.app import RunningApp, running_app
from tests.support.client import fetch, get
from tests.support.messages import Response
from tests.support.steps import hang, reply
from tests.support.stub import Stub, running_stub
from tests.support.upstream import ScriptedUpstream
from tests.support.valkey import Valkey

SOON = 3.0
"""Seconds: ten times any limit that is set here."""
NULL = {"prediction": None, "degraded": True}
PREDICTION = "/properties/1/prediction"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    with running_stub(tmp_path_factory.mktemp("stub"), properties=40) as running:
        yield running


@pytest.fixture
async def stub(process: Stub) -> AsyncIterator[Stub]:
    """The stub, without faults before and after."""
    await fetch(process.port, "DELETE", "/admin/faults")
    yield process
    await fetch(process.port, "DELETE", "/admin/faults")


async def break_(stub: Stub, path: str, fault: str) -> None:
    """From now on `path` fails."""
    rule = json.dumps({"path": path, "fault": fault}).encode()
    assert (await fetch(stub.port, "POST", "/admin/faults", body=rule)).status == 200


async def mend(stub: Stub) -> None:
    assert (await fetch(stub.port, "DELETE", "/admin/faults")).status == 204


def service(stub: Stub, *routes: dict[str, Any], **sections: Any) -> str:
    """A policies file in front of the stub; what the routes do not match goes through as it is."""
    file = {
        **sections,
        "upstreams": {"api": {"url": f"http://127.0.0.1:{stub.port}", "ejection": "off"}, **sections.get("others", {})},
        "routes": [
            *({"upstream": "api", **route} for route in routes),
            {"name": "rest", "match": "* /*", "upstream": "api"},
        ],
    }
    file.pop("others", None)
    return json.dumps(file)


def assert_degraded(answer: Response, step: str, body: Any) -> None:
    assert (answer.status, answer.json()) == (200, body)
    assert answer.header("X-Degraded") == step
    assert answer.header("Cache-Control") == "no-store"
    assert (answer.header("Proxy-Status") or "").startswith("tidegate;")


def assert_genuine(answer: Response) -> None:
    assert answer.status == 200
    assert answer.header("X-Degraded") is None
    assert answer.header("Proxy-Status") is None


# --- the model behind the predictions is down -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["status=503", "status=500", "reset", "hang"])
async def test_prediction_is_null_while_the_model_is_down_and_all_else_goes_on(stub: Stub, fault: str) -> None:
    route = {
        "name": "prediction",
        "match": "GET /properties/{id}/prediction",
        "timeout": "300ms",
        "fallback": [{"static": {"body": NULL}}],
    }
    async with running_app(service(stub, route)) as app:
        before = await get(app.port, PREDICTION)
        assert_genuine(before)
        await break_(stub, PREDICTION, fault)

        for _ in range(3):
            assert_degraded(await get(app.port, PREDICTION), "static", NULL)
            assert_genuine(await get(app.port, "/properties/1"))
        bodiless = await fetch(app.port, "HEAD", PREDICTION)
        assert (bodiless.status, bodiless.header("X-Degraded"), bodiless.body) == (200, "static", b"")
        assert bodiless.content_length == len(json.dumps(NULL, separators=(",", ":")))

        await mend(stub)
        assert (await get(app.port, PREDICTION)).json() == before.json()
        assert await app.metric("proxy_fallbacks_total", route="prediction", step="static") == 4
        assert await app.metric("proxy_requests_total", route="prediction", status="2xx") == 6
        assert await app.metric("proxy_errors_total") == 0


async def test_breaker_spares_a_model_that_is_down_and_the_answer_is_null_at_once(stub: Stub) -> None:
    route = {
        "name": "prediction",
        "match": "GET /properties/{id}/prediction",
        "breaker": "ml",
        "fallback": [{"null_fields": ["prediction"]}],
    }
    breakers = {"ml": {"consecutive_failures": 2, "success_threshold": 1, "break_duration": "1s"}}
    async with running_app(service(stub, route, breakers=breakers)) as app:
        await break_(stub, PREDICTION, "status=503")
        for _ in range(6):
            assert_degraded(await get(app.port, PREDICTION), "null_fields", NULL)
        attempts = await app.metric("proxy_upstream_attempts_total", upstream="api")
        assert attempts == 2

        await mend(stub)
        async with asyncio.timeout(10):
            while (await get(app.port, PREDICTION)).header("X-Degraded"):  # noqa: ASYNC110 - it is time that passes
                await asyncio.sleep(0.05)
        lines = await app.access_log(7)

    causes = [
        decision["detail"] for line in lines[:6] for decision in line["decisions"] if decision["policy"] == "fallback"
    ]
    assert causes == ["status 503"] * 2 + ["breaker-open"] * 4


async def test_service_that_is_gone_altogether_is_replaced_where_something_can_replace_it(tmp_path: Path) -> None:
    route = {
        "name": "prediction",
        "match": "GET /properties/{id}/prediction",
        "fallback": [{"static": {"body": NULL}}],
    }
    with running_stub(tmp_path, properties=5) as stub:
        async with running_app(service(stub, route)) as app:
            assert_genuine(await get(app.port, PREDICTION))
            assert stub.stop() == 0

            answer = await get(app.port, PREDICTION)
            assert_degraded(answer, "static", NULL)
            assert answer.header("Proxy-Status") == 'tidegate;error=connection_refused;details="fallback: static"'
            assert (await get(app.port, "/properties/1")).status == 502


# --- a connector is down: demo data ---------------------------------------------------------------------------------


async def test_listings_are_demo_data_while_their_source_is_down(stub: Stub, tmp_path: Path) -> None:
    demo = {"items": [{"id": 0, "price": 500_000}], "next_cursor": None}
    (tmp_path / "demo.json").write_text(json.dumps(demo))
    route = {"name": "listings", "match": "GET /listings", "fallback": [{"file": str(tmp_path / "demo.json")}]}
    async with running_app(service(stub, route)) as app:
        assert_genuine(await get(app.port, "/listings"))
        await break_(stub, "/listings", "status=502")

        answer = await get(app.port, "/listings?source=agency")

        assert_degraded(answer, "file", demo)
        assert answer.header("Content-Type") == "application/json"
        assert answer.header("Proxy-Status") == 'tidegate;received-status=502;details="fallback: file"'


# --- the service is slow --------------------------------------------------------------------------------------------


async def test_search_that_takes_too_long_is_ended_and_then_replaced(stub: Stub) -> None:
    nothing = {"items": None, "degraded": True}
    route = {
        "name": "search",
        "match": "GET /search",
        "timeout": "300ms",
        "fallback": [{"static": {"body": nothing}}],
    }
    async with running_app(service(stub, route)) as app:
        await break_(stub, "/search", "delay=10s")
        started = time.monotonic()

        answer = await get(app.port, "/search")

        assert time.monotonic() - started < SOON
        assert_degraded(answer, "static", nothing)
        assert "error=http_response_timeout" in (answer.header("Proxy-Status") or "")
        (line,) = await app.access_log()
        assert (line["status"], "error" in line) == (200, False)
        assert [(each["policy"], each["decision"]) for each in line["decisions"]] == [
            ("timeout", "total"),
            ("fallback", "static"),
        ]


async def test_other_upstream_answers_for_a_slow_one_in_what_is_left_of_the_time(stub: Stub) -> None:
    async with ScriptedUpstream() as archive:
        archive.on("/search", reply(200, {"Cache-Control": "max-age=60"}, b'{"items":[]}'))
        route = {
            "name": "search",
            "match": "GET /search",
            "timeout": {"total": "5s", "attempt": "300ms"},
            "fallback": [{"upstream": "archive"}],
        }
        others = {"archive": {"url": archive.url, "host": "upstream"}}
        async with running_app(service(stub, route, others=others)) as app:
            await break_(stub, "/search", "delay=10s")

            answer = await get(app.port, "/search?q=view")

            assert_degraded(answer, "upstream", {"items": []})
            (request,) = archive.requests
            assert (request.target, request.header("Host")) == ("/search?q=view", f"127.0.0.1:{archive.port}")
            assert request.header("X-Request-Attempt") == "2"
            assert 0 < int(request.header("X-Request-Deadline-Ms") or 0) <= 300
            (line,) = await app.access_log()
            assert (line["upstream"], line["attempts"], line["upstream_status"]) == ("archive", 2, 200)


async def test_two_slow_upstreams_take_no_longer_than_the_deadline(stub: Stub) -> None:
    async with ScriptedUpstream() as archive:
        archive.on("/search", hang())
        route = {
            "name": "search",
            "match": "GET /search",
            "timeout": {"total": "500ms", "attempt": "200ms"},
            "fallback": [{"upstream": "archive"}, {"null_fields": ["items"]}],
        }
        async with running_app(service(stub, route, others={"archive": {"url": archive.url}})) as app:
            await break_(stub, "/search", "delay=10s")
            started = time.monotonic()

            assert_degraded(await get(app.port, "/search"), "null_fields", {"items": None, "degraded": True})

            assert time.monotonic() - started < SOON
            assert archive.hits("/search") == 1
            await archive.wait_closed(1)


# --- Redis is down --------------------------------------------------------------------------------------------------


async def test_rate_limit_is_kept_by_each_instance_while_redis_is_down(stub: Stub, tmp_path: Path) -> None:
    route = {"name": "search", "match": "GET /search", "rate_limit": {"rate": "5/hour"}}
    with Valkey(tmp_path) as valkey:
        async with running_app(service(stub, route, redis=valkey.url)) as app:
            assert await statuses(app, 2) == [200, 200]
            valkey.kill()

            # Never a 5xx, and never without a limit: at most one burst more than Redis would have let pass.
            after = await statuses(app, 12)

            assert set(after) == {200, 429}
            assert after.count(200) <= 5
            assert after[-1] == 429
            assert (await get(app.port, "/properties/1")).status == 200


async def statuses(app: RunningApp, requests: int) -> list[int]:
    return [(await get(app.port, "/search")).status for _ in range(requests)]
