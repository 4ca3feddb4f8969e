import asyncio
import json
import re
import socket
import sys
from pathlib import Path

import pytest

from tests.support.steps import reply
from tests.support.upstream import ScriptedUpstream

DOCKERFILE = (Path(__file__).parents[2] / "Dockerfile").read_text(encoding="utf-8")


def health_check(port: int) -> list[str]:
    """The image's health check, for another port and by this interpreter."""
    match = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert match
    _python, *arguments, script = json.loads(match[1])
    assert "9902" in script
    return [sys.executable, *arguments, script.replace("9902", str(port))]


async def run(command: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 1), (503, 1)])
async def test_the_health_check_tells_by_the_status_of_healthz(status: int, code: int) -> None:
    async with ScriptedUpstream() as listener:
        listener.on("/healthz", reply(status))
        assert await run(health_check(listener.port)) == code
        assert listener.hits("/healthz") == 1


async def test_the_health_check_fails_when_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert await run(health_check(port)) == 1


def test_the_image_runs_as_nobody_in_particular_and_stops_on_sigterm() -> None:
    last_stages = DOCKERFILE.partition("AS runtime\n")[2]
    assert "USER 10001:10001" in last_stages
    assert "STOPSIGNAL SIGTERM" in last_stages
    assert 'ENTRYPOINT ["tidegate"]\n' in last_stages
