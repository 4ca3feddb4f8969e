"""Fault H07: whatever clients send, a request is one line of valid JSON, and no secret of theirs is written down."""

import json
from pathlib import Path

import pytest

from tests.support.client import RawClient, get
from tests.support.edge import request, running_edge
from tests.support.settings import policies
from tests.support.sidecar import Sidecar
from tests.support.steps import send
from tests.support.upstream import ScriptedUpstream, refusing_port

HOSTILE = {
    "quotes": b'","status":200,"x":"',
    "backslash": b'\\\\" \\u0000 \\n',
    "high-bytes": b"\x80\xff\xfe\xc0\xaf",
    "surrogate": b"\xed\xa0\x80\xed\xb0\x80",
    "line-separators": b"\xe2\x80\xa8\xe2\x80\xa9\xc2\x85",
    "bidi": b"\xe2\x80\xae\xe2\x81\xa6",
    "tab": b"a\tb",
    "long": b"x" * 7000,
    "emoji": "🌊".encode(),
}


def log_lines(folder: Path) -> list[dict[str, object]]:
    """The access log, each line of which must stand alone."""
    raw = (folder / "access.log").read_bytes()
    assert raw.endswith(b"\n")
    lines = raw[:-1].split(b"\n")
    for line in lines:
        text = line.decode("utf-8")
        assert text.isprintable(), "control, format and separator characters are escaped"
        assert len(line) < 8192
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_h07_hostile_user_agent_stays_within_its_line(text: bytes) -> None:
    async with running_edge() as edge:
        await edge.passes(request(b"User-Agent: " + text + b"\r\n", method="GET"))
        await edge.app.access_log(3)

        agents = [line["user_agent"] for line in log_lines(edge.app.folder)]

    assert len(agents) == 3
    assert agents[0]
    assert not {"\n", "\r", "\x1b", "\u2028"} & set(str(agents[0]))


@pytest.mark.parametrize(
    "path", ["/a\"b'c\\", "/%0a%0d%1b", "/%22%5c", '/?"\\', "/{}[],:", "/%E2%80%A8", "/a%ff", "/<script>"]
)
async def test_h07_hostile_path_stays_within_its_line(path: str) -> None:
    async with running_edge() as edge, edge.client() as client:
        await client.request("GET", path)
        await client.close()
        await edge.app.access_log(1)

        (line,) = log_lines(edge.app.folder)

    assert line["path"] == path.partition("?")[0]


@pytest.mark.parametrize(
    "raw",
    [
        *(b'GET /\x1b[31m"\xff HTTP/1.1\r\n\r\n', b"\xff\xfe\r\n\r\n", b'G"T / HTTP/1.1\r\n\r\n'),
        request(b'X: a\0"\r\n'),
        request(b"Content-Length: x\xff\r\n"),
        request(b"", method='FOO"\\'),
    ],
)
async def test_h07_refused_request_is_one_line_too(raw: bytes) -> None:
    async with running_edge() as edge:
        async with edge.client() as client:
            await client.send(raw)
            await client.read_response()
        await edge.app.access_log(1)

        (line,) = log_lines(edge.app.folder)

    assert (line["route"], line["error_source"]) == ("unmatched", "client")


async def test_h07_hostile_reason_of_the_upstream_is_not_in_the_log() -> None:
    async with running_edge() as edge, edge.client() as client:
        edge.upstream.on("/", send(b'HTTP/1.1 200 OK"\x80\xff{\r\nX: \xff"\r\nContent-Length: 0\r\n\r\n'))
        await client.send(request(method="GET", target="/"))
        await client.read_response(check=False)
        await edge.app.access_log(1)

        (line,) = log_lines(edge.app.folder)

    assert line["status"] == 200


# --- secrets ---

SECRET = "zq7-canary-zq7"
CARRIERS = [
    *("Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "Referer", "X-Forwarded-For", "X-Request-ID"),
    *("X-Amz-Security-Token", "Via", "Forwarded", "Origin"),
]


def requests_with_secrets() -> list[bytes]:
    fields = "".join(f"{name}: {SECRET}\r\n" for name in CARRIERS)
    one = request(fields.encode(), method="GET", target=f"/ok?token={SECRET}&a=b")
    return [
        one,
        one.replace(b"/ok?", b"/broken?"),
        one.replace(b"/ok?", b"/cut?"),
        one.replace(b"/ok?", b"/%00?"),
        one.replace(b"/ok?", f"http://user:{SECRET}@api.example/ok?".encode()),
        one.replace(b"/ok?", b"http://api.example/ok?"),
        one.replace(b"HTTP/1.1", b"HTTP/3.3"),
        one.replace(b"GET", b"NOPE"),
        one.replace(b"GET", b"TRACE"),
        one.replace(b"X-Mark", b"X Mark"),
        request(f"Content-Length: {SECRET}\r\n".encode()),
        request(f"X: {SECRET}\0\r\n".encode()),
        request(b"Transfer-Encoding: chunked\r\n", f"{SECRET}\r\n".encode()),
        f"POST /ok HTTP/1.1\r\nHost: {SECRET}@h\r\n\r\n".encode(),
        SECRET.encode() + b"\r\n\r\n",
    ]


async def test_h07_secrets_are_written_nowhere() -> None:
    with refusing_port() as port:
        async with ScriptedUpstream() as upstream:
            file = policies(upstream.url, routes=[{"name": "all", "match": "* /*", "upstream": "api"}])
            document = json.loads(file)
            document["upstreams"]["gone"] = {"url": f"http://127.0.0.1:{port}"}
            document["routes"].append({"name": "broken", "match": "* /broken", "upstream": "gone"})
            document["server"] = {"slow_request": "1ms", "drain": "100ms"}
            upstream.on("/cut", send(f"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{SECRET}"[:50].encode()))
            async with Sidecar(json.dumps(document)) as sidecar:
                statuses = [await _send(sidecar.port, raw) for raw in requests_with_secrets()]
                shown = await _all_that_is_shown(sidecar)
                await sidecar.access_log(len(statuses))
                written = [(sidecar.folder / name).read_text() for name in ("access.log", "stderr", "stdout")]

    assert {200, 400, 405, 501, 502} <= set(statuses)
    assert [text for text in (*shown, *written) if SECRET in text] == []


async def _send(port: int, raw: bytes) -> int:
    async with RawClient(port) as client:
        await client.send(raw)
        return (await client.read_response()).status


async def _all_that_is_shown(sidecar: Sidecar) -> list[str]:
    paths = ("/metrics", "/healthz", "/readyz", "/routes", "/config", f"/nothing?{SECRET}")
    return [(await get(sidecar.admin_port, path)).body.decode() for path in paths]
