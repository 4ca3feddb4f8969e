"""Fault H01: the paths of the admin listener mean nothing on the data port, however they are written."""

import pytest

from tests.support.edge import running_edge

PATHS = ["/metrics", "/healthz", "/readyz", "/routes", "/config", "/reload", "/"]
SPELLINGS = ["{path}", "/{path}", "/.{path}", "http://127.0.0.1:{admin}{path}", "http://admin{path}", "{path}?x"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("path", PATHS)
async def test_h01_admin_path_on_the_data_port_is_the_upstreams(path: str, spelling: str, method: str) -> None:
    async with running_edge() as edge, edge.client() as client:
        admin = edge.app.admin_port
        target = spelling.format(path=path, admin=admin)
        answer = await client.request(method, target, {"Host": f"127.0.0.1:{admin}", "X-Admin": "yes"})

    assert answer.json()["target"] == target.removeprefix(f"http://127.0.0.1:{admin}").removeprefix("http://admin")


@pytest.mark.parametrize("target", ["/%6Detrics", "/metrics/", "/METRICS", "/x/../metrics", "/metrics;x"])
async def test_h01_odd_spellings_are_the_upstreams_too(target: str) -> None:
    async with running_edge() as edge, edge.client() as client:
        assert (await client.request("GET", target)).json()["target"] == target


async def test_h01_without_a_route_they_are_not_there() -> None:
    async with running_edge(routes=[{"name": "things", "match": "GET /things"}]) as edge, edge.client() as client:
        statuses = {(await client.request("GET", path)).status for path in PATHS}

    assert (statuses, edge.upstream.requests) == ({404}, [])
