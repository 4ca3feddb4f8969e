"""The benchmark's configurations load and its arithmetic is right; nothing is timed here."""

import contextlib
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from bench import report
from bench.compare import Effort, Results
from bench.load import Sample, parse
from bench.origin import Origin, answer
from bench.process import TICK, BenchError, cpu_seconds
from bench.profiling import Frame, parse_stacks
from bench.profiling import render as render_profile
from bench.scenarios import SCENARIOS
from bench.startup import Start
from bench.targets import HERE, Target, find_nginx, render, response_body
from proxy.policies_file import load

VALUES = {
    "WORK": "/nonexistent",
    "ACCESS_LOG": "/nonexistent/access.log",
    "LISTEN_PORT": "18080",
    "ADMIN_PORT": "18081",
    "ORIGIN_PORT": "18082",
    "BODY": response_body(),
}
GET = SCENARIOS["get"]


def sample(target: str, cpu_us: float, throughput: float = 1000) -> Sample:
    return Sample("get", target, cpu_us, throughput, p50_ms=1.5, p99_ms=3.25)


RECORDED = [
    sample("tidegate", 36), sample("envoy", 48),
    sample("tidegate", 30), sample("envoy", 50),
    sample("tidegate", 42), sample("envoy", 52),
]  # fmt: skip


def results(samples: list[Sample]) -> Results:
    starts = [Start("tidegate", 0.4, 0.35, 60 * 2**20), Start("envoy", 0.09, None, 64 * 2**20)]
    return Results("nginx 1.22.1", Effort(3, 3, 10), starts, samples, {"tidegate": 65 * 2**20})


def test_envoy_configuration_is_yaml_with_the_policies_that_are_compared(tmp_path: Path) -> None:
    text = render("envoy.yaml", tmp_path, VALUES).read_text()

    [listener] = yaml.safe_load(text)["static_resources"]["listeners"]

    assert listener["address"]["socket_address"]["port_value"] == 18080
    for policy in ("local_ratelimit", "retry_policy", "outlier_detection", "access_loggers.file", "timeout: 30s"):
        assert policy in text


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-origin.conf"])
def test_nginx_accepts_its_configuration(tmp_path: Path, name: str) -> None:
    nginx = find_nginx()
    if nginx is None:
        pytest.skip("nginx is not installed")
    values = {**VALUES, "WORK": str(tmp_path), "ACCESS_LOG": str(tmp_path / "access.log")}

    done = subprocess.run([nginx, "-t", "-c", render(name, tmp_path, values)], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr


def test_every_scenario_has_the_route_it_expects() -> None:
    config = load(HERE / "policies.yaml", VALUES).config
    paths = {pattern.partition(" ")[2] for route in config.routes for pattern in route.match}

    for scenario in SCENARIOS.values():
        matched = any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), scenario.path) for path in paths)
        assert matched == (scenario.status != 404), scenario.name


def test_response_body_is_one_kibibyte() -> None:
    assert len(response_body()) == 1024


def test_cpu_seconds_adds_user_and_system_time_whatever_the_process_is_called() -> None:
    stat = "17 (odd) name) S 1 17 17 0 -1 4194304 900 0 0 0 250 50 7 7 20 0 4 0 123"

    assert cpu_seconds(stat) == pytest.approx(300 * TICK)


def test_wrk_result_becomes_cost_per_request() -> None:
    measured = parse("noise\nRESULT 2000 4000000 0 0 1500 3250\n", GET, "nginx", cpu_seconds=0.03)

    assert measured == Sample("get", "nginx", 15.0, 500.0, 1.5, 3.25)


@pytest.mark.parametrize(
    ("scenario", "line"),
    [
        ("get", "RESULT 2000 4000000 1 0 1500 3250"),
        ("get", "RESULT 2000 4000000 0 1 1500 3250"),
        ("get", "RESULT 0 4000000 0 0 0 0"),
        ("get", "unable to connect"),
        ("unmatched", "RESULT 2000 4000000 1999 0 1500 3250"),
    ],
)
def test_any_unexpected_answer_makes_the_measurement_void(scenario: str, line: str) -> None:
    with pytest.raises(BenchError, match="void"):
        parse(line, SCENARIOS[scenario], "nginx", cpu_seconds=1)


def test_refusals_count_where_they_are_what_is_measured() -> None:
    assert parse("RESULT 10 1000000 10 0 1 1", SCENARIOS["unmatched"], "nginx", cpu_seconds=1).throughput == 10


@pytest.mark.parametrize(("refused", "is_void"), [(2000, False), (1999, False), (1998, True)])
def test_one_request_in_a_round_may_pass_a_limit(refused: int, is_void: bool) -> None:
    with pytest.raises(BenchError) if is_void else contextlib.nullcontext():
        parse(f"RESULT 2000 4000000 {refused} 0 1 1", SCENARIOS["limited"], "nginx", cpu_seconds=1)


def test_scenarios_are_for_those_who_can_answer_so() -> None:
    assert [name for name in ("tidegate", "naive", "nginx") if SCENARIOS["limited"].suits(name)] == [
        "tidegate",
        "nginx",
    ]
    assert SCENARIOS["get"].suits("naive")


def test_scenario_table_compares_with_envoy_round_by_round() -> None:
    assert report.scenario_table(RECORDED, "get").splitlines() == [
        "| target   | CPU µs/request | / Envoy (min to max) | requests/s | p50 ms | p99 ms |",
        "| :------- | -------------: | -------------------: | ---------: | -----: | -----: |",
        "| tidegate |           36.0 |  0.75 (0.60 to 0.81) |       1000 |   1.50 |   3.25 |",
        "| envoy    |           50.0 |  1.00 (1.00 to 1.00) |       1000 |   1.50 |   3.25 |",
    ]


def test_scenario_table_without_envoy_has_no_ratio() -> None:
    row = report.scenario_table([sample("nginx", 14)], "get").splitlines()[2]

    assert [cell.strip() for cell in row.split("|")[1:4]] == ["nginx", "14.0", ""]


@pytest.mark.parametrize(("cpu_us", "verdict"), [(38.4, "reached"), (38.5, "missed")])
def test_goal_is_eight_tenths_of_envoy(cpu_us: float, verdict: str) -> None:
    goals = report.goal_table(results([sample("tidegate", cpu_us), sample("envoy", 48)])).splitlines()

    assert goals[2].split()[-2] == verdict


@pytest.mark.parametrize("target", ["tidegate", "tidegate-no-lane"])
@pytest.mark.parametrize(("cpu_us", "verdict"), [(10.0, "reached"), (10.1, "missed")])
def test_refusal_is_to_cost_a_quarter_of_a_proxied_request(target: str, cpu_us: float, verdict: str) -> None:
    refusals = Sample("limited", target, cpu_us, 1000, p50_ms=1, p99_ms=2)
    goals = report.goal_table(results([sample(target, 40), refusals])).splitlines()

    assert goals[2].split()[-2] == verdict
    assert f"`{target}`, `limited`" in goals[2]


def test_report_names_what_was_not_measured() -> None:
    targets = [Target("tidegate", "0.1.0", lambda work, values: [])]

    text = report.render(results(RECORDED), targets, {"nginx": "Debian: apt-get install nginx-light"})

    assert "Not measured: nginx is not installed (Debian: apt-get install nginx-light)." in text
    assert "tidegate (0.1.0)" in text
    assert re.search(r"\| tidegate +\| +400 \| +350 \| +60.0 \| +65.0 \|", text)


def test_report_replaces_only_what_is_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")

    report.write("new\n", document)

    assert document.read_text() == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"


def test_report_refuses_a_document_without_markers(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"{report.END} {report.BEGIN}")

    with pytest.raises(ValueError, match="bench:begin"):
        report.write("new\n", document)


def test_document_has_the_markers() -> None:
    text = report.DOCUMENT.read_text()

    assert text.index(report.BEGIN) < text.index(report.END)


PERF_SCRIPT = """
        ffffffff81 tcp_sendmsg ([kernel.kallsyms])
            104d1d __GI___libc_write (/usr/lib/libc.so.6)
            1504b7 uv__try_write (inlined)
            1504b7 uv_try_write (/v/lib/python3.13/site-packages/uvloop/loop.cpython-313-x86_64-linux-gnu.so)
                85 py::Edge.write:/home/x/proxy/server/writer.py (/tmp/jitted-7-2406.so)
                85 py::main:/home/x/proxy/cli.py (/tmp/jitted-7-1.so)

        ffffffff82 tcp_recvmsg ([kernel.kallsyms])
            104d1d __GI___libc_read (inlined)
                85 py::main:/home/x/proxy/cli.py (/tmp/jitted-7-1.so)

            14ffaf PyObject_SetAttr (/usr/lib/libpython3.13.so.1.0)
                85 py::main:/home/x/proxy/cli.py (/tmp/jitted-7-1.so)
"""


def test_stacks_are_read_innermost_first() -> None:
    first, second, third = parse_stacks(PERF_SCRIPT.splitlines())

    assert first[0].is_kernel
    assert first[3] == Frame("uv_try_write", "uvloop/loop")
    assert first[4] == Frame("Edge.write", "proxy/server/writer.py", is_python=True)
    assert len(second) == 3
    assert [frame.name for frame in third] == ["PyObject_SetAttr", "main"]


def test_profile_shares_out_the_cost_of_a_request() -> None:
    lines = render_profile(list(parse_stacks(PERF_SCRIPT.splitlines())), cost=60.0).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]

    assert ["kernel write", "20.00"] in rows
    assert ["proxy/server/writer.py Edge.write", "kernel write", "20.00"] in rows
    assert ["proxy/cli.py main", "interpreter", "20.00"] in rows
    assert ["proxy/cli.py main", "kernel read", "20.00"] in rows
    assert ["proxy/cli.py main", "60.00"] in rows


class Sink:
    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_origin_answers_each_request_once_however_it_is_cut(size: int) -> None:
    sink, origin = Sink(), Origin(answer(b"small", "text/plain"), answer(b"large", "text/plain"))
    origin.connection_made(sink)  # type: ignore[arg-type]
    post = b"POST /items HTTP/1.1\r\nContent-Length: 4\r\n\r\n\r\n\r\n"
    stream = b"GET /items HTTP/1.1\r\n\r\n" + post + b"GET /large HTTP/1.1\r\n\r\n"

    for start in range(0, len(stream), size):
        origin.data_received(stream[start : start + size])

    assert re.findall(rb"small|large", sink.written) == [b"small", b"small", b"large"]
