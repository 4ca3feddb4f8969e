"""The checker must find each kind of damage, and nothing in a healthy run."""

import pytest

from tests.support.client import RawClient
from tests.support.load import run_mix
from tests.support.messages import Response
from tests.support.nonce import Ledger, Sent
from tests.support.steps import Turn, close, delay, echo, head, reply, reset, send, sequence
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.both_loops


async def exchange(
    ledger: Ledger, client: RawClient, method: str = "POST", target: str = "/x"
) -> tuple[Sent, Response]:
    sent = ledger.issue(method, target, b"body")
    response = await client.request(method, target, sent.headers, b"body")
    ledger.judge(sent, response)
    return sent, response


async def test_healthy_mix_is_clean() -> None:
    async with ScriptedUpstream(keep_bodies=False) as upstream:
        ledger = await run_mix(upstream.port, seconds=0.5, rps=200, seed=1)
    report = ledger.reconcile(upstream.requests)

    assert not report.violations, report
    assert report.errors == 0, report
    assert report.outcomes.keys() == {"answered", "aborted"}
    assert report.statuses[200] == report.outcomes["answered"]


async def test_answers_in_the_wrong_order_are_crossed() -> None:
    ledger = Ledger(1)
    async with ScriptedUpstream() as upstream, RawClient(upstream.port) as client:
        first, answer = await exchange(ledger, client)
        second, _ = await exchange(ledger, client)
        ledger.judge(second, answer)

    report = ledger.reconcile(upstream.requests)
    assert len(report.crossed) == 2, report
    assert first.nonce in report.crossed[0]


async def test_repeated_post_is_duplicated_and_repeated_get_is_not() -> None:
    ledger = Ledger(1)
    async with ScriptedUpstream() as upstream, RawClient(upstream.port) as client:
        for method in ("POST", "GET"):
            sent, _ = await exchange(ledger, client, method)
            await client.request(method, "/x", sent.headers, b"body")

    report = ledger.reconcile(upstream.requests)
    assert len(report.violations) == len(report.duplicated) == 1, report


async def test_cut_body_that_looks_complete_is_a_violation() -> None:
    ledger = Ledger(1)
    async with ScriptedUpstream() as upstream, RawClient(upstream.port) as client:
        sent = ledger.issue("GET", "/x")
        answer = await client.request("GET", "/x", sent.headers)
        answer.body = answer.body[:-1]
        ledger.judge(sent, answer)

    assert len(ledger.reconcile(upstream.requests).cut) == 1


async def test_visible_abort_and_refusal_are_errors_but_no_violations() -> None:
    ledger = Ledger(1)
    async with ScriptedUpstream() as upstream:
        upstream.on("/cut", head(200, {"Content-Length": "9"}), send(b"a"), close())
        upstream.on("/refused", reply(503))
        for target in ("/cut", "/refused"):
            async with RawClient(upstream.port) as client:
                await exchange(ledger, client, target=target)

    report = ledger.reconcile(upstream.requests)
    assert not report.violations
    assert report.errors == 2


async def test_missing_outcome_and_unexecuted_answer_are_lost() -> None:
    ledger = Ledger(1)
    async with ScriptedUpstream() as upstream, RawClient(upstream.port) as client:
        ledger.issue("GET", "/never")
        await exchange(ledger, client)

    assert len(ledger.reconcile([]).lost) == 2


async def test_mix_goes_on_through_faults() -> None:
    async with ScriptedUpstream(keep_bodies=False) as upstream:
        count = 0

        async def sometimes_reset(turn: Turn) -> None:
            nonlocal count
            count += 1
            await (reset() if count % 5 == 0 else sequence(delay(0.005), echo()))(turn)

        upstream.on("*", sometimes_reset)
        ledger = await run_mix(upstream.port, seconds=0.5, rps=200, seed=2)
    report = ledger.reconcile(upstream.requests)

    assert not report.violations, report
    assert report.outcomes["cut"] > 5
