"""An open-loop load of nonce-checked requests: arrivals keep their rate however slowly answers come."""

import asyncio
from collections.abc import Mapping
from random import Random

from tests.support.client import RawClient, chunked, request_bytes
from tests.support.nonce import Ledger, Sent
from tests.support.wire import WireEnded

S1: Mapping[str, int] = {"get": 60, "post": 20, "large": 10, "chunked": 5, "abort": 5}
"""Weights: cacheable GETs, POSTs of 1 to 64 KB, POSTs of 1 MB, chunked POSTs, and clients that leave."""


async def run_mix(port: int, *, seconds: float, rps: float, seed: int, mix: Mapping[str, int] = S1) -> Ledger:
    """Offer `rps` requests a second to 127.0.0.1:`port`; reconcile the ledger with the upstream's requests."""
    load = _Load(port, seed, mix)
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with asyncio.TaskGroup() as exchanges:
        for number in range(round(seconds * rps)):
            await asyncio.sleep(start + number / rps - loop.time())
            exchanges.create_task(load.one_exchange())
    await load.close()
    return load.ledger


class _Load:
    """The generator's state: its random choices, its ledger, its idle keep-alive connections."""

    def __init__(self, port: int, seed: int, mix: Mapping[str, int]) -> None:
        self.port = port
        self.random = Random(seed)
        self.ledger = Ledger(seed)
        self.mix = mix
        self.idle: list[RawClient] = []

    async def one_exchange(self) -> None:
        kind = self.random.choices([*self.mix], [*self.mix.values()])[0]
        sent, message = self._compose(kind)
        leaves_after = self.random.random() * 0.02
        try:
            client = await self._connect()
        except OSError:
            sent.outcome = "cut"
        else:
            if kind == "abort":
                await self._abort(client, sent, message, leaves_after)
            else:
                await self._exchange(client, sent, message)

    def _compose(self, kind: str) -> tuple[Sent, bytes]:
        number = self.random.randrange(50)
        if kind == "get":
            sent = self.ledger.issue("GET", target := f"/cacheable/{number}")
            return sent, request_bytes("GET", target, sent.headers)
        size = 1 << 20 if kind == "large" else self.random.randrange(1 << 10, 1 << 16)
        body = self.random.randbytes(size)
        sent = self.ledger.issue("POST", target := f"/write/{number}?kind={kind}", body)
        if kind != "chunked":
            return sent, request_bytes("POST", target, sent.headers, body)
        headers = [*sent.headers, ("Transfer-Encoding", "chunked")]
        return sent, request_bytes("POST", target, headers, chunked(body[:1], body[1:1000], body[1000:]))

    async def _exchange(self, client: RawClient, sent: Sent, message: bytes) -> None:
        method = sent.line.partition(" ")[0]
        try:
            await client.send(message)
            response = await client.read_response(method, check=False)
        except WireEnded:
            sent.outcome = "cut"
            await client.close()
        except TimeoutError:
            await client.close()
        else:
            self.ledger.judge(sent, response)
            await self._give_back(client, response.complete and response.header("Connection") != "close")

    async def _abort(self, client: RawClient, sent: Sent, message: bytes, leaves_after: float) -> None:
        """Leave with a reset somewhere between the first request byte and the answer."""
        sent.outcome = "aborted"
        sending = asyncio.ensure_future(client.send(message))
        await asyncio.sleep(leaves_after)
        client.reset()
        await asyncio.gather(sending, return_exceptions=True)

    async def _connect(self) -> RawClient:
        while self.idle:
            client = self.idle.pop()
            if client.wire.ended == "open":
                return client
            await client.close()
        return await RawClient(self.port, within=30).connect()

    async def _give_back(self, client: RawClient, reusable: bool) -> None:
        if reusable:
            self.idle.append(client)
        else:
            await client.close()

    async def close(self) -> None:
        for client in self.idle:
            await client.close()
