"""Fault A18: mutated requests. Nothing crashes, hangs or fails, and all that is forwarded means one thing to everybody.

`TIDEGATE_FUZZ_MUTATIONS` and `TIDEGATE_FUZZ_SEED` in the environment make a longer run or another one.
"""

import asyncio
import os
import re
from pathlib import Path
from random import Random

import h11

from tests.support.edge import Edge, running_edge
from tests.support.messages import ReceivedRequest
from tests.support.steps import reply

MUTATIONS = int(os.environ.get("TIDEGATE_FUZZ_MUTATIONS", "2000"))
SEED = int(os.environ.get("TIDEGATE_FUZZ_SEED", "1"))
WORKERS = 40
"""Each with a client address of its own, by which the upstream tells whose requests it gets."""
CORPUS = [
    line.encode().decode("unicode_escape").encode("latin-1")
    for line in (Path(__file__).parent / "corpus" / "requests.txt").read_text().splitlines()
]
PIECES = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"\r\n\r\n",
        b"\x0b",
        b"\x7f",
        b"\xff",
        b"#",
        b"%",
        b"//",
    ),
    *(
        b"0",
        b"00",
        b"-",
        b"+",
        b"1" * 20,
        b"HTTP/1.0",
        b"HTTP/1.1",
        b"chunked",
        b"close",
        b"0\r\n\r\n",
        b"_",
        b"Host: b\r\n",
    ),
    *(
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
    ),
]
LAST = b"GET /last HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\n\r\n"
"""Behind each mutation, so that connections end at once unless the mutation has swallowed it."""
LIMITS = {"header_timeout": "300ms", "body_timeout": "300ms", "keepalive": "1s"}
ANSWER = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
LOOSE_LINE = re.compile(rb"\A[\r\n]*(?:([!-~]+) +([!-~]+) +(HTTP/1\.[01]\r\n))?")
"""Empty lines and spaces that sections 2.2 and 3 of RFC 9112 let a server overlook; h11 does not."""
ABOUT_US = re.compile(r"https?://[^/?]*", re.IGNORECASE)
REFUSALS_OVER_499 = {b"501", b"505"}


def mutate(random: Random) -> bytes:
    data = bytearray(random.choice(CORPUS))
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        at = random.randrange(len(data) + 1)
        match random.randrange(7):
            case 0:
                data[at : at + random.randrange(1, 9)] = b""
            case 1:
                data[at:at] = random.choice(PIECES)
            case 2:
                data[at : at + random.randrange(1, 4)] = random.choice(PIECES)
            case 3:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 4:
                start = random.randrange(len(data) + 1)
                data[at:at] = data[start : start + random.randrange(1, 40)]
            case 5:
                other = random.choice(CORPUS)
                data[at:] = other[random.randrange(len(other)) :]
            case 6:
                data[at : at + 12] = data[at : at + 12].swapcase()
    return bytes(data)


async def test_a18_mutated_requests_do_no_harm() -> None:
    random = Random(SEED)
    cases = [mutate(random) for _ in range(MUTATIONS)]
    async with running_edge(server={"limits": LIMITS}) as edge:
        edge.upstream.on("*", reply(200, body=b"fine"))
        faults = await asyncio.gather(*(_work(edge, number, cases[number::WORKERS]) for number in range(WORKERS)))
        await edge.is_sound()

    assert [fault for each in faults for fault in each] == []


async def _work(edge: Edge, number: int, cases: list[bytes]) -> list[str]:
    """Send the cases one after the other; what went wrong with each."""
    address = f"127.0.0.{10 + number}"
    faults = []
    for case in cases:
        before = len(edge.upstream.requests)
        answers = await _exchange(edge.port, address, case + LAST)
        forwarded = [each for each in edge.upstream.requests[before:] if each.header("X-Real-IP") == address]
        faults += [f"{case!r}: {fault}" for fault in _judge(case + LAST, answers, forwarded)]
    return faults


async def _exchange(port: int, address: str, data: bytes) -> bytes | None:
    """All that comes back; None when the connection does not end."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            try:
                writer.write(data)
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()
    except TimeoutError:
        return None


def _judge(sent: bytes, answers: bytes | None, forwarded: list[ReceivedRequest]) -> list[str]:
    if answers is None:
        return ["hangs"]
    statuses = ANSWER.findall(answers)
    faults = [f"answered {status!r}" for status in statuses if status >= b"500" and status not in REFUSALS_OVER_499]
    whole = [each for each in forwarded if each.complete]
    faults += [
        f"forwarded {bytes(each.raw)!r}, which h11 reads otherwise"
        for each in whole
        if _as_h11_reads(bytes(each.raw))[0] != [_essence(each)]
    ]
    meant, has_opinion = _as_h11_reads(sent)
    meant = [_origin_form(each) for each in meant if not _is_about_us(each)]
    passed = [_essence(each) for each in whole[: len(whole) if has_opinion else len(meant)]]
    if passed != meant[: len(passed)]:
        faults.append(f"forwarded {passed}, h11 reads {meant}")
    return faults


Essence = tuple[str, str, bytes]
"""Method, target, body."""


def _essence(request: ReceivedRequest) -> Essence:
    return request.method, request.target, request.body


def _is_about_us(request: Essence) -> bool:
    method, target, _ = request
    return target == "*" or (method == "OPTIONS" and ABOUT_US.fullmatch(target) is not None)


def _origin_form(request: Essence) -> Essence:
    method, target, body = request
    path = re.sub(r"^https?://[^/?]*", "", target, flags=re.IGNORECASE)
    return method, path if path.startswith("/") else f"/{path}", body


def _as_h11_reads(data: bytes) -> tuple[list[Essence], bool]:
    """The requests that h11 finds in what a client sends, up to one that it refuses.

    The second value is False where it goes no further for another reason: it keeps no HTTP/1.0 connection open.
    """
    found = []
    while data := LOOSE_LINE.sub(lambda match: b" ".join(filter(None, match.groups())), data):
        peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        peer.receive_data(data)
        try:
            request = _next_request(peer)
        except h11.RemoteProtocolError:
            break
        if request is None:
            break
        found.append(request)
        if peer.their_state is h11.MUST_CLOSE:
            return found, False
        data = peer.trailing_data[0]
    return found, True


def _next_request(peer: h11.Connection) -> Essence | None:
    head, body = None, b""
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return head.method.decode(), head.target.decode("latin-1"), body
        else:
            return None
