"""The overload experiment's parts work and its arithmetic is right; nothing is timed here."""

import asyncio
import re
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import overload_report, report
from bench.overload import experiment
from bench.overload_figures import Counts, Effort, Run, percentile
from bench.overload_load import BROKEN, RETRIES, TIMED_OUT, Answer, Load, read_phase
from bench.overload_plot import plot, timeline
from bench.overload_upstream import CAPACITY, Connection, Upstream
from bench.targets import HERE
from proxy.policies_file import load
from tests.support.client import RawClient, get
from tests.support.steps import Gate, head, reply, reset, send
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually

VALUES = {"ACCESS_LOG": "/nonexistent", "LISTEN_PORT": "18080", "ADMIN_PORT": "18081", "ORIGIN_PORT": "18082"}
EFFORT = Effort(before=1, overload=2, after=1)


def answers(start: float, end: float, *statuses: int, rate: float = CAPACITY, seconds: float = 0.06) -> list[Answer]:
    """Evenly spaced, their statuses taken in turn."""
    count = round((end - start) * rate)
    return [Answer(start + n / rate, seconds, statuses[n % len(statuses)], 0.001) for n in range(count)]


def run(
    *parts: list[Answer], target: str = "tidegate", factor: float = 2, hits: int = 0, opened: int | None = 0
) -> Run:
    return Run(target, "/items/1", factor, EFFORT, [*chain(*parts)], Counts(hits, opened))


# --- figures --------------------------------------------------------------------------------------------------------


def test_goodput_is_what_was_served_when_the_overload_had_settled() -> None:
    measured = run(
        answers(0, 1, 200), answers(1, 2, 503), answers(2, 3, 200, 503, rate=2 * CAPACITY), answers(3, 4, 200)
    )

    assert measured.goodput == pytest.approx(1.0)


def test_recovery_is_when_nearly_all_that_follows_is_served() -> None:
    assert run(answers(0, 3, 200), answers(3, 3.3, TIMED_OUT), answers(3.3, 4, 200)).recovery == pytest.approx(0.3)
    assert run(answers(0, 3, 503), answers(3, 4, 200)).recovery == 0
    assert run(answers(0, 3, 200), answers(3, 4, *[200] * 20, BROKEN)).recovery is None


def test_amplification_and_waste_are_counted_over_the_whole_run() -> None:
    measured = run(answers(0, 1, 200, 503), hits=150)

    assert measured.amplification == 0.75
    assert measured.wasted == pytest.approx(1 - 100 / 150)


def test_percentile_is_a_value_that_was_measured() -> None:
    assert [percentile(range(100), percent) for percent in (0, 50, 99, 100)] == [0, 50, 99, 99]
    assert percentile([], 99) == 0


def test_timeline_counts_by_when_requests_were_due() -> None:
    points = timeline(run(answers(0, 1, 200), answers(1, 4, 503)))

    assert points[:5] == [(0.125, 1.0), (0.375, 1.0), (0.625, 1.0), (0.875, 1.0), (1.125, 0.0)]
    assert len(points) == 16


# --- report ---------------------------------------------------------------------------------------------------------


def recorded() -> list[Run]:
    good, bad = answers(0, 4, 200), answers(0, 4, TIMED_OUT)
    refusals = answers(1, 3, 503, seconds=0.002)
    return [
        run(bad, target="naive", factor=2, hits=800, opened=None),
        run(bad, target="naive", factor=10, hits=800, opened=None),
        run(good, refusals, factor=2, hits=800),
        run(good, *[refusals] * 9, factor=10, hits=800),
    ]


def failing(hits: int) -> list[Run]:
    return [Run("tidegate", "/fail-alone/1", 1, EFFORT, answers(0, 1, 503), Counts(hits, 0))]


def verdicts(runs: list[Run], hits: int = 210) -> list[str]:
    return [row[-1] for row in overload_report.goals(runs, failing(hits))]


def test_goals_are_reached_or_missed() -> None:
    assert verdicts(recorded()) == ["reached"] * 7

    slow = run(answers(0, 3, 200, 503, seconds=0.2), answers(3, 4, TIMED_OUT), factor=10, opened=1)
    assert verdicts([slow], hits=230) == ["missed"] * 6


def test_report_has_the_declared_columns_and_every_run() -> None:
    text = overload_report.render(recorded(), failing(210), 1.0)

    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert [cells(table.splitlines()[0]) for table in tables[1:]] == [
        list(overload_report.COLUMNS),
        list(overload_report.FAILING_COLUMNS),
    ]
    assert [cells(line)[:3] for line in tables[1].splitlines()[2:]] == [
        ["naive", "2x", "0%"], ["naive", "10x", "0%"], ["tidegate", "2x", "100%"], ["tidegate", "10x", "100%"],
    ]  # fmt: skip
    assert cells(tables[2].splitlines()[2]) == ["retry alone", "200", "210", "1.05", "closed"]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_plot_is_well_formed_and_draws_every_target() -> None:
    root = ElementTree.fromstring(plot(recorded()))

    lines = [line for line in root.findall(".//{*}polyline") if line.get("stroke-width") == "2"]
    assert len(lines) == 4
    assert {text.text for text in root.findall(".//{*}text")} >= {"naive", "tidegate", "2x", "10x", "100%"}


def test_document_holds_a_full_run() -> None:
    text = overload_report.DOCUMENT.read_text()
    results = text.partition(report.BEGIN)[2].partition(report.END)[0]

    tables = re.findall(r"(?:^\|.*\n)+", results, re.MULTILINE)
    assert [cells(table.splitlines()[0]) for table in tables[1:]] == [
        list(overload_report.COLUMNS),
        list(overload_report.FAILING_COLUMNS),
    ]
    assert [cells(line)[:2] for line in tables[1].splitlines()[2:]] == [
        [target, f"{factor}x"] for target in ("naive", "tidegate") for factor in (1, 2, 5, 10)
    ]
    assert ElementTree.parse(overload_report.PLOT).getroot().tag.endswith("svg")


# --- parts ----------------------------------------------------------------------------------------------------------


def test_policies_have_what_the_document_says() -> None:
    config = load(HERE / "overload.yaml", VALUES).config
    items, failing, alone = config.routes

    assert items.bulkhead is not None
    assert (items.bulkhead.max_concurrent, items.bulkhead.max_queued) == (10, 5)
    assert items.bulkhead.queue_timeout == overload_report.QUEUE_WAIT
    assert [route.breaker is not None for route in (items, failing, alone)] == [True, True, False]
    assert all(route.retry is not None and route.timeout.total == 1 for route in config.routes)


@pytest.fixture
async def upstream() -> Any:
    """Its port and itself: two slots of 20 ms."""
    loop = asyncio.get_running_loop()
    upstream = Upstream(loop, slots=2, service=0.02)
    async with await loop.create_server(lambda: Connection(upstream), "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], upstream


async def test_upstream_works_on_as_many_as_it_has_slots_and_on_the_rest_in_turn(upstream: Any) -> None:
    port, state = upstream
    finished: list[int] = []

    async def ask(number: int) -> None:
        async with RawClient(port) as client:
            assert (await client.request("GET", f"/items/{number}")).status == 200
            finished.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(ask(number))
            await eventually(lambda number=number: state.hits == number + 1)  # type: ignore[misc]

    assert {*finished[:2]} == {0, 1}
    assert {*finished[2:4]} == {2, 3}


async def test_upstream_fails_at_once_where_it_is_told_to_and_counts(upstream: Any) -> None:
    port, _ = upstream

    assert (await get(port, "/fail/1")).status == 503
    assert (await get(port, "/items/1")).status == 200
    assert (await get(port, "/stats")).json() == {"hits": 2}


async def test_load_does_not_wait_for_answers_and_clients_give_up() -> None:
    async with ScriptedUpstream() as scripted:
        scripted.on("/x", Gate(), reply(200))

        found = await Load(scripted.port, "/x", deadline=0.2, impatient=1000).run([(100, 0.3)])

    assert len(found) == 30
    assert [answer.status for answer in found] == [TIMED_OUT] * 30


async def test_impatient_clients_ask_three_times_more() -> None:
    async with ScriptedUpstream() as scripted:
        scripted.on("/x", reply(503))

        found = await Load(scripted.port, "/x", impatient=2).run([(100, 0.2)])

        assert len(found) == scripted.hits("/x") == 20 + 10 * RETRIES
        assert {answer.status for answer in found} == {503}


async def test_load_reads_answers_in_pieces_and_sees_broken_ones() -> None:
    async with ScriptedUpstream() as scripted:
        scripted.on("/x", reset(), times=1)
        scripted.on("/x", head(200, {"Content-Length": "4"}), send(b"ab"), send(b"cd"))

        found = await Load(scripted.port, "/x", impatient=1000).run([(50, 0.2)])

    assert sorted(answer.status for answer in found) == [BROKEN, *[200] * 9]


async def test_load_leaves_a_connection_that_is_announced_to_end() -> None:
    async with ScriptedUpstream() as scripted:
        scripted.on("/x", reply(200, {"Connection": "close"}))

        found = await Load(scripted.port, "/x", impatient=1000).run([(50, 0.2)])

        assert [answer.status for answer in found] == [200] * 10
        assert len(scripted.wires) == 10


def test_phases_are_read() -> None:
    assert read_phase("1e3:2.5") == (1000, 2.5)


def test_the_whole_experiment_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs, failing = experiment(Effort(0.1, 0.4, 0.1), factors=(1,))

    assert [each.target for each in runs] == ["naive", "tidegate"]
    assert all(each.counts.hits for each in (*runs, *failing))
    assert {answer.status for answer in runs[1].answers} >= {200}
    assert "More than the capacity" in overload_report.render(runs, failing, 0.0)
