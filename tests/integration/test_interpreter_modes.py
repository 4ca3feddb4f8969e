"""Fault G07: the interpreter's modes take no check away, and without aiohttp's C parser nothing starts."""

import os
import subprocess
import sys

import pytest

from tests.support.client import RawClient
from tests.support.edge import SECOND, check_last, check_problem, request
from tests.support.settings import policies
from tests.support.sidecar import ROOT, Sidecar
from tests.support.upstream import ScriptedUpstream

LAST_CHUNK = b"0\r\n\r\n"
REFUSED = [
    request(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LAST_CHUNK),
    request(b"Content-Length: 007\r\n", b"ab"),
    request(b"Transfer-Encoding: \r\n", LAST_CHUNK),
    request(b"Transfer-Encoding: gzip, chunked\r\n", LAST_CHUNK),
    request(b"Transfer-Encoding: chunked\r\n", LAST_CHUNK).replace(b"HTTP/1.1", b"HTTP/1.0"),
    request(b"Transfer-Encoding: chunked\r\n", b"2\nab\r\n" + LAST_CHUNK),
    request(b"X: a\0b\r\n"),
    request(b"Host: evil.example\r\n"),
    request(b"X : y\r\n"),
    request(target="/zq7#x"),
    request(method="CONNECT", target="evil:443"),
    b"\x16\x03\x01\x02\x00",
]
MODES = {
    "optimised": (("-O",), {}, "uvloop"),
    "development": (("-X", "dev"), {}, "uvloop"),
    "asyncio-debug-on-uvloop": ((), {"PYTHONASYNCIODEBUG": "1"}, "uvloop"),
    "asyncio-debug": ((), {"PYTHONASYNCIODEBUG": "1"}, "asyncio"),
}


@pytest.mark.parametrize(("python", "env", "loop"), MODES.values(), ids=MODES)
async def test_g07_checks_hold_in_every_mode(python: tuple[str, ...], env: dict[str, str], loop: str) -> None:
    async with ScriptedUpstream() as upstream:
        file = policies(upstream.url, server={"drain": "100ms"})
        async with Sidecar(file, loop=loop, env=env, python=python) as sidecar:
            for raw in REFUSED:
                async with RawClient(sidecar.port) as client:
                    await client.send(raw + SECOND)
                    response = await client.read_response()
                    await check_last(client, response)
                check_problem(response, 400, 405, 501)
            assert upstream.requests == []
            async with RawClient(sidecar.port) as client:
                assert (await client.request("POST", "/items", body=b"x" * 100_000)).status == 200
                assert (await client.request("GET", "/second")).status == 200
            assert await sidecar.stop() == 0
            assert [word for word in ("Traceback", "Warning", "never awaited") if word in sidecar.stderr] == []


def test_g07_serve_does_not_start_without_the_c_parser() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "proxy", "serve", "--policies", "policies.yaml"],
        cwd=ROOT,
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("tidegate: aiohttp's C parser is not in use")
    assert ended.stderr.count("\n") == 1
