"""The cache experiment's parts work, and a small run of it meets every goal that does not depend on the machine."""

import asyncio
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from bench import cache_mix_report, report
from bench.cache_mix import Results, experiment
from bench.cache_mix_client import BROKEN, Answer, Client
from bench.cache_mix_load import Load
from bench.cache_mix_phases import Effort, Spread, Stampede
from bench.cache_mix_site import policies
from bench.cache_mix_tally import Tally, Upstream
from bench.cache_mix_truth import Truth, Write, description_of, revision_in
from bench.cache_mix_workload import HOST, Ask, Mix, Parameters, Zipf, detail, list_with, written
from proxy.policies_file import load
from tests.support.policies import load_text
from tests.support.steps import head, reply, reset, send
from tests.support.upstream import ScriptedUpstream

ROOT = Path(__file__).parents[2]
HIT = b"tidegate;hit;ttl=50"
MISS = b"tidegate;fwd=uri-miss;fwd-status=200;stored"
DETAIL = Ask("detail", "GET", detail(7), 7)


# --- what is asked for ----------------------------------------------------------------------------------------------


def test_zipf_draws_the_second_half_as_often_as_the_first() -> None:
    zipf = Zipf(100, 1.0, Random(1))
    drawn = Counter(zipf.draw() for _ in range(100_000))

    assert drawn[0] == pytest.approx(100_000 / 5.187, rel=0.05)
    assert drawn[1] == pytest.approx(drawn[0] / 2, rel=0.1)
    assert drawn[9] == pytest.approx(drawn[0] / 10, rel=0.2)
    assert set(drawn) <= set(range(100))


def test_mix_is_what_its_parameters_say_and_the_same_every_time() -> None:
    parameters = Parameters(properties=100)
    one, two = Mix(parameters), Mix(parameters)
    asked = [one.draw() for _ in range(20_000)]

    assert asked == [two.draw() for _ in range(20_000)]
    kinds = Counter(each.kind for each in asked)
    reads = len(asked) - kinds["write"]
    assert kinds["write"] / len(asked) == pytest.approx(0.02, abs=0.005)
    assert [kinds[kind] / reads for kind in ("detail", "search", "list")] == pytest.approx([0.75, 0.2, 0.05], abs=0.02)
    assert {each.method for each in asked if each.kind == "write"} == {"PUT", "PATCH"}
    assert all(1 <= each.number <= 100 for each in asked if each.kind in ("detail", "write"))


def test_what_a_write_sends_is_a_whole_property_or_the_description_alone() -> None:
    put = orjson.loads(written(Ask("write", "PUT", detail(7), 7), "new").body)
    patch = orjson.loads(written(Ask("write", "PATCH", detail(7), 7), "new").body)

    assert patch == {"description": "new"}
    assert put["description"] == "new"
    assert "id" not in put
    assert f"price={put['price']}" in list_with(7)


# --- what is true ---------------------------------------------------------------------------------------------------


def test_an_answer_is_outdated_by_what_had_been_confirmed_when_it_was_asked_for() -> None:
    truth = Truth()
    first, second = truth.begin(7), 0
    truth.end(7, Write(first, 0, 10.0))
    second = truth.begin(7)
    truth.end(7, Write(second, 1, 12.0))

    assert truth.lag(7, 0, 0, 9.0) == (0, 0)
    assert truth.lag(7, 0, 0, 11.0) == (1.0, 0)
    assert truth.lag(7, 0, 1, 13.0) == (1.0, 3.0)
    assert truth.lag(7, first, 0, 13.0) == (0, 1.0)
    assert truth.lag(7, second, 2, 99.0) == (0, 0)
    assert truth.lag(8, 0, 0, 99.0) == (0, 0)


def test_writes_of_one_property_are_one_at_a_time() -> None:
    truth = Truth()

    assert truth.begin(7) == 1
    assert truth.begin(7) == 0
    assert truth.begin(8) == 2
    truth.end(7, None)
    assert truth.begin(7) == 3
    assert truth.lag(7, 0, 0, 99.0) == (0, 0)


def test_revisions_are_read_from_descriptions() -> None:
    assert revision_in(description_of(42)) == 42
    assert revision_in("A garden. Revision 42 of the mix.") == 0


# --- what is counted ------------------------------------------------------------------------------------------------


def answer(
    status: int = 200, cache_status: bytes = HIT, number: int = 7, revision: int = 0, asked: float = 1.0
) -> Answer:
    body = orjson.dumps({"id": number, "description": description_of(revision)})
    return Answer(status, cache_status, body, asked, asked + 0.002)


@pytest.mark.parametrize(
    ("cache_status", "outcome"),
    [
        (HIT, "memory"),
        (b'tidegate;hit;ttl=12;detail="redis"', "redis"),
        (b"tidegate;hit;ttl=-3", "stale"),
        (MISS, "miss"),
        (b"tidegate;fwd=uri-miss;fwd-status=200;stored;collapsed", "collapsed"),
        (b"tidegate;fwd=stale;fwd-status=304;stored", "revalidated"),
        (b"", "miss"),
    ],
)
def test_outcomes_are_told_by_cache_status(cache_status: bytes, outcome: str) -> None:
    tally = Tally("test")
    tally.record(DETAIL, answer(cache_status=cache_status), Truth(), 0)

    assert tally.outcomes == {("detail", outcome): 1}


def test_ratios_count_reads_and_the_upstream_is_asked_for_writes_too() -> None:
    tally = Tally("test")
    for cache_status in (HIT, HIT, b"tidegate;hit;ttl=-3", MISS):
        tally.record(DETAIL, answer(cache_status=cache_status), Truth(), 0)
    tally.record(Ask("write", "PUT", detail(7), 7), answer(cache_status=b"tidegate;fwd=method"), Truth(), 0)
    tally.upstream = Upstream(12, 30).since(Upstream(10, 26))

    assert (tally.requests, tally.reads) == (5, 4)
    assert tally.hit_ratio() == tally.hit_ratio("detail") == 0.75
    assert tally.asked_of_upstream == 0.4
    assert tally.queried == 0.8


def test_what_is_wrong_is_counted_and_told() -> None:
    tally, truth = Tally("test"), Truth()
    truth.end(7, Write(truth.begin(7), 0, 10.0))
    tally.record(DETAIL, answer(503), truth, 0)
    tally.record(DETAIL, Answer(BROKEN, b"", b"", 1.0, 1.1), truth, 0)
    tally.record(DETAIL, answer(number=8), truth, 0)
    tally.record(DETAIL, answer(asked=10.5), truth, 0)
    tally.record(DETAIL, answer(asked=10.5), truth, 1)
    tally.record(DETAIL, answer(asked=12.0), truth, 1)

    assert (tally.errors, tally.wrong, tally.outdated_own, tally.outdated_others) == (2, 1, 1, 2)
    assert (tally.own_lag, tally.others_lag) == (0.5, 2.0)
    assert len(tally.examples) == 5


# --- clients --------------------------------------------------------------------------------------------------------


async def test_client_reads_answers_in_pieces_and_sees_broken_ones() -> None:
    async with ScriptedUpstream() as scripted:
        scripted.on("/x", head(200, {"Content-Length": "4", "Cache-Status": "tidegate; hit"}), send(b"ab"), send(b"cd"))
        scripted.on("/y", reset())
        client = Client(scripted.port)

        good = await client.ask(Ask("detail", "GET", "/x"))
        bad = await client.ask(Ask("detail", "GET", "/y"))
        again = await client.ask(Ask("detail", "GET", "/x"))
        client.close()

    assert (good.status, good.body, good.cache_status) == (200, b"abcd", b"tidegate; hit")
    assert (bad.status, again.status) == (BROKEN, 200)
    assert scripted.requests[0].header("Host") == HOST
    assert (await Client(scripted.port).ask(Ask("detail", "GET", "/x"))).status == BROKEN


async def test_load_keeps_its_rate_and_every_client_waits_for_its_answer() -> None:
    async with ScriptedUpstream() as scripted:
        scripted.on("*", reply(404))
        parameters = Parameters(properties=10, clients=2, rate=100.0)
        load = Load([scripted.port], parameters, Mix(parameters), Truth())
        load.tally = tally = Tally("test")
        with load.running():
            await asyncio.sleep(0.5)

    assert 0 < tally.requests <= 60
    assert tally.errors == tally.requests
    assert len(scripted.wires) == 2


# --- policies -------------------------------------------------------------------------------------------------------


def test_policies_are_those_of_the_repository_but_for_the_rate_limits(tmp_path: Path) -> None:
    own = load(ROOT / "policies.yaml", {}).config
    used = load_text(tmp_path, orjson.dumps(policies(18080, 18081, caches=True)).decode()).config

    assert [route.cache for route in used.routes] == [route.cache for route in own.routes]
    assert [route.invalidate for route in used.routes] == [route.invalidate for route in own.routes]
    assert not any(route.rate_limit for route in used.routes)
    without = load_text(tmp_path, orjson.dumps(policies(18080, 18081, caches=False)).decode()).config
    assert all(route.cache is None for route in without.routes)


# --- report ---------------------------------------------------------------------------------------------------------


def tally(name: str, hits: int, misses: int, upstream: int) -> Tally:
    found = Tally(name)
    found.seconds = 1.0
    found.outcomes["detail", "memory"], found.outcomes["detail", "miss"] = hits, misses
    found.upstream = Upstream(upstream, upstream)
    return found


def results(**changes: Any) -> Results:
    fields: dict[str, Any] = {
        "parameters": Parameters(),
        "effort": Effort(),
        "without": tally("without a cache", 0, 100, 100),
        "warm_up": tally("warm-up", 80, 20, 20),
        "steady": tally("steady", 90, 10, 12),
        "away": tally("Redis killed", 80, 20, 20),
        "back": tally("Redis back, empty", 60, 40, 40),
        "spread": Spread(tally("writes, read at once", 60, 40, 40), 20, [0.01, 0.02]),
        "stampedes": [Stampede(1000, 1000, 1, 1, 0.6)],
    }
    return Results(**{**fields, **changes})


def wrong(**changes: Any) -> Tally:
    found = tally("wrong", 100, 0, 0)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_goals_are_reached_by_a_good_run() -> None:
    assert cache_mix_report.missed(results()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"steady": tally("steady", 84, 16, 10)},
        {"steady": tally("steady", 90, 10, 16)},
        {"back": wrong(outdated_own=1)},
        {"steady": wrong(others_lag=1.1)},
        {"away": wrong(others_lag=10.1)},
        {"warm_up": wrong(wrong=1)},
        {"away": wrong(errors=1)},
        {"away": tally("Redis killed", 10, 90, 90)},
        {"spread": Spread(tally("writes, read at once", 1, 0, 0), unseen=1)},
        {"spread": Spread(tally("writes, read at once", 1, 0, 0), never=1)},
        {"stampedes": [Stampede(1000, 1000, 1, 1, 0.6), Stampede(1000, 1000, 2, 1, 0.6)]},
        {"stampedes": [Stampede(1000, 999, 1, 1, 0.6)]},
        {"stampedes": [Stampede(1000, 1000, 1, 2, 0.6)]},
    ],
)
def test_every_goal_can_be_missed(changes: dict[str, Any]) -> None:
    assert len(cache_mix_report.missed(results(**changes))) == 1


def tables(text: str) -> list[list[str]]:
    """The first cells of the rows of every table, its head included."""
    found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    return [[line.split("|")[1].strip() for line in table.splitlines() if ":--" not in line] for table in found]


def test_report_has_every_phase_and_every_goal() -> None:
    text = cache_mix_report.render(results(), 1.0)

    goals, phases, kinds = tables(text)
    assert goals[1:] == [row[0] for row in cache_mix_report.goals(results())]
    assert phases[1:] == [each.name for each in (results().without, *results().tallies)]
    assert kinds[1:] == list(cache_mix_report.KINDS)


def test_document_holds_a_full_run_in_which_no_goal_was_missed() -> None:
    text = cache_mix_report.DOCUMENT.read_text(encoding="utf-8")
    found = text.partition(report.BEGIN)[2].partition(report.END)[0]

    assert tables(found) == tables(cache_mix_report.render(results(), 1.0))
    assert "missed" not in found


# --- a small run ----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_a_small_run_meets_every_goal_that_does_not_depend_on_the_machine(tmp_path: Path) -> None:
    parameters = Parameters(properties=150, clients=4, rate=400.0)
    effort = Effort(without=1, warm_up=2, steady=3, down=1.5, after=3, writes=12, misses=300, rounds=1)

    found = experiment(tmp_path, parameters, effort)

    assert found.steady.reads > 50
    assert found.spread.writes > 0
    assert len(found.spread.seconds) == 2 * found.spread.writes
    assert found.steady.hit_ratio() > 0.2
    assert cache_mix_report.spared(found, "asked_of_upstream") > 0.2
    assert max(each.others_lag for each in found.tallies) < 10
    examples = [example for each in found.tallies for example in each.examples]
    missed = [goal for goal in cache_mix_report.missed(found) if not re.search("ratio|spared|elsewhere: longest", goal)]
    assert missed == [], examples
