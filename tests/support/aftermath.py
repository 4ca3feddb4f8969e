"""After a fault: what the client was told, what is still held, and whether anybody else noticed."""

import asyncio
import contextlib

from tests.support.client import RawClient
from tests.support.instance import Instance
from tests.support.messages import Response
from tests.support.nonce import Ledger
from tests.support.waiting import WITHIN

_HELD: tuple[tuple[str, dict[str, str]], ...] = (
    ("proxy_requests_in_flight", {}),
    ("proxy_upstream_connections", {"state": "busy"}),
    ("proxy_upstream_connections", {"state": "connecting"}),
    ("proxy_upstream_pool_waiting", {}),
)


def assert_problem(answer: Response, status: int, token: str) -> None:
    """A complete problem response of our own, with this status and RFC 9209 error."""
    assert answer.complete
    assert answer.status == status, answer.body
    assert (answer.header("Proxy-Status") or "").split(";")[:2] == ["tidegate", f"error={token}"]
    assert answer.header("Content-Type") == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.header("Server") is None
    assert b"127.0.0.1" not in answer.raw


def assert_cut(answer: Response) -> None:
    """An answer that nobody can take for a whole one."""
    assert not answer.complete
    assert answer.ended != "open"
    if answer.is_chunked:
        assert not answer.raw.endswith(b"0\r\n\r\n")


async def assert_unharmed(instance: Instance, client: RawClient | None = None) -> None:
    """The next requests, on `client` while its connection lives and on a new one, get their own answers."""
    ledger = Ledger(seed=1)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient(instance.port))]
        if client is not None and client.wire.ended == "open":
            clients.insert(0, client)
        for each in [*clients, *clients]:
            sent = ledger.issue("GET", "/unharmed")
            ledger.judge(sent, await each.request("GET", "/unharmed", sent.headers))
            assert sent.outcome == "answered", sent
    report = ledger.reconcile([])
    assert not report.crossed, report
    assert not report.cut, report


async def wait_at_rest(instance: Instance) -> None:
    """Wait until no exchange is under way and no upstream connection is in use or wanted; raises TimeoutError."""
    for name, labels in _HELD:
        await until_metric(instance, 0, name, **labels)


async def until_metric(instance: Instance, value: float, name: str, **labels: str) -> None:
    """Wait until the samples of that name with these labels add up to `value`; raises TimeoutError."""
    async with asyncio.timeout(WITHIN):
        while await instance.metric(name, **labels) != value:  # noqa: ASYNC110 - nothing here can set an event
            await asyncio.sleep(0.01)
