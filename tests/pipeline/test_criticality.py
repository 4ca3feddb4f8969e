"""How important a request is: the route's word, or a trusted caller's; what it decides, and who is told."""

import asyncio
import json
from typing import Any

import pytest

from proxy.config.policies import CRITICALITIES
from tests.support.aftermath import assert_problem, until_metric, wait_at_rest
from tests.support.app import RunningApp, running_app
from tests.support.client import get
from tests.support.edge import request, running_edge
from tests.support.messages import Response
from tests.support.settings import policies
from tests.support.steps import Gate, reply
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.both_loops

FIELD = "X-Request-Criticality"
TRUSTING = {"trusted_proxies": ["127.0.0.1"]}


def said(word: str) -> bytes:
    return f"{FIELD}: {word}\r\n".encode()


@pytest.mark.parametrize("word", CRITICALITIES)
async def test_route_tells_the_upstream_unless_it_is_the_default(word: str) -> None:
    async with running_edge(route={"criticality": word}) as edge:
        received = await edge.passes(request(method="GET"))

    assert received.header_list(FIELD) == ([] if word == "default" else [word])


@pytest.mark.parametrize("name", [FIELD, FIELD.lower(), "X-REQUEST-CRITICALITY"])
async def test_strangers_word_is_dropped(name: str) -> None:
    async with running_edge(route={"criticality": "sheddable"}) as edge:
        received = await edge.passes(request(f"{name}: critical\r\n".encode() * 2, method="GET"))

    assert received.header_list(FIELD) == ["sheddable"]


@pytest.mark.parametrize("word", CRITICALITIES)
async def test_trusted_callers_word_counts_more_than_the_routes(word: str) -> None:
    async with running_edge(server=TRUSTING, route={"criticality": "sheddable"}) as edge:
        received = await edge.passes(request(said(word) + said("sheddable"), method="GET"))

    assert received.header_list(FIELD) == ([] if word == "default" else [word])


@pytest.mark.parametrize("word", ["", "CRITICAL", "critical, default", "highest", "0", "critical;q=1", "x" * 5000])
async def test_word_that_nobody_knows_is_ignored(word: str) -> None:
    async with running_edge(server=TRUSTING, route={"criticality": "sheddable"}) as edge:
        received = await edge.passes(request(said(word), method="GET"))

    assert received.header_list(FIELD) == ["sheddable"]


async def test_header_edit_can_take_the_field_away() -> None:
    edits = {"request": {"remove": [FIELD]}}
    async with running_edge(route={"criticality": "critical", "headers": edits}) as edge:
        received = await edge.passes(request(method="GET"))

    assert received.header_list(FIELD) == []


async def test_edit_of_another_field_leaves_it() -> None:
    edits = {"request": {"set": {"X-Key": "ours"}}}
    async with running_edge(route={"criticality": "critical", "headers": edits}) as edge:
        received = await edge.passes(request(method="GET"))

    assert received.header_list(FIELD) == ["critical"]


# --- what else a trusted caller says ---


@pytest.mark.parametrize(
    ("attempt", "trusted", "hits"),
    [("1", True, 3), ("2", True, 1), ("999", True, 1), ("1000", True, 3), ("x", True, 3), ("2", False, 3)],
)
async def test_callers_own_attempts_are_not_multiplied(attempt: str, trusted: bool, hits: int) -> None:
    retry = {"max_attempts": 3, "base_delay": "1ms", "max_delay": "1ms"}
    server = TRUSTING if trusted else {}
    async with running_edge(server=server, route={"retry": retry}) as edge:
        edge.upstream.on("/", reply(503))

        assert (await get(edge.port, "/", {"X-Request-Attempt": attempt})).status == 503

        assert edge.upstream.hits("/") == hits


# --- in the queue ---


def begin(app: RunningApp, target: str, headers: dict[str, str] | None = None) -> asyncio.Task[Response]:
    return asyncio.ensure_future(get(app.port, target, headers))


def sharing(url: str, **server: Any) -> str:
    """Two routes of different importance with one bulkhead of one permit and two places."""
    routes = [
        {"name": "reports", "match": "GET /report", "criticality": "background", "bulkhead": "pool"},
        {"name": "rest", "match": "GET /*", "bulkhead": "pool"},
    ]
    pool = {"max_concurrent": 1, "max_queued": 2, "queue_timeout": "10s"}
    return json.dumps({**json.loads(policies(url, routes=routes, server=server)), "bulkheads": {"pool": pool}})


@pytest.mark.parametrize("by_header", [True, False])
async def test_important_request_takes_the_place_of_a_less_important_one(by_header: bool) -> None:
    gate = Gate()
    async with ScriptedUpstream() as upstream, running_app(sharing(upstream.url, **TRUSTING)) as app:
        upstream.on("/held", gate, reply())
        held = begin(app, "/held")
        await gate.reached.wait()
        first = begin(app, "/report")
        await until_metric(app, 1, "proxy_bulkhead_queued")
        second = begin(app, "/report")
        await until_metric(app, 2, "proxy_bulkhead_queued")

        important = begin(app, "/report" if by_header else "/", {FIELD: "critical"} if by_header else {})
        answer = await second

        assert_problem(answer, 503, "connection_limit_reached")
        assert answer.header("Retry-After")
        assert await app.metric("proxy_bulkhead_queued") == 2
        gate.open()
        assert [each.status for each in await asyncio.gather(held, important, first)] == [200] * 3
        path = "/report" if by_header else "/"
        assert [each.path for each in upstream.requests] == ["/held", path, "/report"]
        assert await app.metric("proxy_policy_decisions_total", policy="bulkhead", decision="evicted") == 1
        await wait_at_rest(app)
