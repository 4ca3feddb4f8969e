"""The clients of the cache experiment: each asks, waits for the answer and asks again, all at a bounded rate."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from bench.cache_mix_client import Answer, Client
from bench.cache_mix_tally import Tally
from bench.cache_mix_truth import Truth, Write, description_of
from bench.cache_mix_workload import Ask, Mix, Parameters, written

_BACKLOG = 0.05
"""Seconds by which the clients may be late and still catch up."""


class Load:
    """Clients of each of the sidecars at `ports`; everything they meet goes into `tally`, which may be replaced."""

    def __init__(self, ports: Sequence[int], parameters: Parameters, mix: Mix, truth: Truth) -> None:
        self.ports = ports
        self.truth = truth
        self.mix = mix
        self.tally = Tally("nothing")
        self.rate = parameters.rate
        self._parameters = parameters
        self._due = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """All clients are busy while the block lasts."""
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(self._client(instance))
            for instance in range(len(self.ports))
            for _ in range(self._parameters.clients)
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def _client(self, instance: int) -> None:
        client = Client(self.ports[instance])
        try:
            while True:
                await asyncio.sleep(self._wait())
                await self.carry_out(self.mix.draw(), client, instance)
        finally:
            client.close()

    def _wait(self) -> float:
        """Seconds until the next request is due; whoever is late does not make up for all of it."""
        now = monotonic()
        self._due = max(self._due, now - _BACKLOG) + 1 / self.rate
        return max(self._due - now, 0.0)

    async def carry_out(self, ask: Ask, client: Client, instance: int) -> Answer | None:
        """One request, noted in the tally of when it is answered; None: a write that another one has forestalled."""
        if ask.kind == "write":
            return await self._write(ask, client, instance)
        answer = await client.ask(ask)
        self.tally.record(ask, answer, self.truth, instance)
        return answer

    async def _write(self, ask: Ask, client: Client, instance: int) -> Answer | None:
        revision = self.truth.begin(ask.number)
        if not revision:
            return None
        write = None
        try:
            answer = await client.ask(written(ask, description_of(revision)))
            if answer.status == 200:
                write = Write(revision, instance, answer.answered)
        finally:
            self.truth.end(ask.number, write)
        self.tally.record(ask, answer, self.truth, instance)
        return answer
