import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import RawClient
from tests.support.messages import Response
from tests.support.stub import Stub, running_stub
from tests.support.wire import WireEnded


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    with running_stub(tmp_path_factory.mktemp("stub"), properties=20) as running:
        yield running


@pytest.fixture
async def stub(process: Stub) -> Stub:
    """The stub without rules."""
    async with RawClient(process.port) as client:
        assert (await client.request("DELETE", "/admin/faults")).status == 204
    return process


async def get(stub: Stub, fault: str | None = None, target: str = "/properties/1") -> Response:
    async with RawClient(stub.port) as client:
        return await client.request("GET", target, {"X-Stub-Fault": fault} if fault else None)


async def put_rule(stub: Stub, **rule: Any) -> Response:
    async with RawClient(stub.port) as client:
        return await client.request("POST", "/admin/faults", body=json.dumps(rule).encode())


async def test_without_a_fault_nothing_is_marked(stub: Stub) -> None:
    assert (await get(stub)).header("X-Stub-Fault") is None


async def test_delay_holds_the_answer_back(stub: Stub) -> None:
    start = time.monotonic()
    response = await get(stub, "delay=200ms")
    assert time.monotonic() - start >= 0.2
    assert (response.status, response.header("X-Stub-Fault")) == (200, "delay=200ms")


async def test_status_answers_in_place_of_the_service(stub: Stub) -> None:
    response = await get(stub, "status=503", "/properties/999999")
    assert (response.status, response.header("Content-Type")) == (503, "application/problem+json")
    assert response.header("X-Stub-Fault") == "status=503"


async def test_drip_sends_the_body_in_pieces(stub: Stub) -> None:
    async with RawClient(stub.port) as client:
        await client.send_request("GET", "/health", {"X-Stub-Fault": "drip=5ms"})
        response = await client.read_head()
        pieces = [piece async for piece in client.read_body(response)]
    assert response.complete
    assert len(pieces) > 1
    assert b"".join(pieces) == b'{"status":"ok"}'


async def test_truncate_ends_the_body_early_with_fin(stub: Stub) -> None:
    whole = await get(stub)
    response = await get(stub, "truncate")
    assert not response.complete
    assert response.ended == "fin"
    assert response.content_length == len(whole.body)
    assert whole.body.startswith(response.body)
    assert 0 < len(response.body) < len(whole.body)


async def test_reset_comes_before_the_answer(stub: Stub) -> None:
    async with RawClient(stub.port) as client:
        await client.send_request("GET", "/properties/1", {"X-Stub-Fault": "reset"})
        with pytest.raises(WireEnded):
            await client.read_response()
        assert await client.ended_within() == "rst"
        assert client.unread == b""


async def test_truncate_with_reset_ends_the_body_early_with_rst(stub: Stub) -> None:
    response = await get(stub, "truncate, reset")
    assert (response.complete, response.ended) == (False, "rst")
    assert response.body


async def test_hang_never_answers_and_holds_up_nobody_else(stub: Stub) -> None:
    async with RawClient(stub.port, within=0.3) as client:
        await client.send_request("GET", "/properties/1", {"X-Stub-Fault": "hang"})
        with pytest.raises(TimeoutError):
            await client.read_response()
        assert (await get(stub)).status == 200


async def test_faults_combine(stub: Stub) -> None:
    start = time.monotonic()
    response = await get(stub, "delay=100ms,status=500,truncate")
    assert time.monotonic() - start >= 0.1
    assert (response.status, response.complete) == (500, False)


async def test_a_connection_serves_on_after_a_fault_that_ends_cleanly(stub: Stub) -> None:
    async with RawClient(stub.port) as client:
        statuses = [
            (await client.request("GET", "/properties/1", {"X-Stub-Fault": fault})).status
            for fault in ("status=500", "drip=1ms", "delay=1ms")
        ]
        assert (await client.request("GET", "/properties/1")).status == 200
    assert statuses == [500, 200, 200]


@pytest.mark.parametrize(
    "fault",
    [
        *("", "explode", "hang,,reset", "status=500;hang", "reset=1", "truncate=yes"),
        *("delay", "delay=", "delay=5", "delay=-1s", "delay=1e3s", "delay=601s", "delay=1s,delay=2s"),
        *("status", "status=99", "status=600", "status=2_0"),
    ],
)
async def test_a_fault_that_is_not_understood_is_400(stub: Stub, fault: str) -> None:
    async with RawClient(stub.port) as client:
        response = await client.request("GET", "/properties/1", [("X-Stub-Fault", fault)])
    assert (response.status, response.header("Content-Type")) == (400, "application/problem+json")


async def test_a_rule_covers_its_path_and_what_lies_below(stub: Stub) -> None:
    assert (await put_rule(stub, path="/properties/1", fault="status=503")).status == 200
    targets = ("/properties/1", "/properties/1/prediction", "/properties/11", "/properties")
    assert [(await get(stub, target=target)).status for target in targets] == [503, 503, 200, 200]


async def test_a_rule_for_the_root_covers_all_but_admin(stub: Stub) -> None:
    rules = (await put_rule(stub, fault="status=503")).json()["faults"]
    assert rules == [
        {"path": "/", "fault": "status=503", "probability": 1.0, "count": None, "expires_in": None},
    ]
    assert (await get(stub, target="/health")).status == 503
    assert (await get(stub, target="/admin/faults")).json()["faults"] == rules


async def test_a_rule_ends_after_its_count(stub: Stub) -> None:
    await put_rule(stub, fault="status=503", count=2)
    assert [(await get(stub)).status for _ in range(3)] == [503, 503, 200]
    assert (await get(stub, target="/admin/faults")).json()["faults"] == []


async def test_the_header_goes_before_a_rule(stub: Stub) -> None:
    await put_rule(stub, fault="status=503")
    assert (await get(stub, "status=500")).status == 500


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"fault": "explode"},
        {"fault": "hang", "path": "properties"},
        {"fault": "hang", "probability": 0},
        {"fault": "hang", "probability": 1.1},
        {"fault": "hang", "count": 0},
        {"fault": "hang", "expires_in": 0},
        {"fault": "hang", "unknown": 1},
    ],
)
async def test_a_bad_rule_is_422_and_is_not_kept(stub: Stub, rule: dict[str, Any]) -> None:
    assert (await put_rule(stub, **rule)).status == 422
    assert (await get(stub, target="/admin/faults")).json()["faults"] == []


async def test_faults_leave_no_connection_behind(stub: Stub) -> None:
    async def break_one(fault: str) -> None:
        async with RawClient(stub.port, within=0.05) as client:
            await client.send_request("GET", "/properties/1", {"X-Stub-Fault": fault})
            with pytest.raises((WireEnded, TimeoutError)):
                await client.read_response()

    await asyncio.gather(*(break_one(fault) for fault in ("hang", "reset", "delay=10s") for _ in range(5)))
    assert (await get(stub)).status == 200
