"""FaultProxy: a TCP proxy that spoils a connection on command, in the words of Toxiproxy.

    async with FaultProxy(upstream.port) as faults:
        faults.downstream.latency = 0.2        # answers come 200 ms late
        faults.upstream.stall()                # requests go nowhere: a black hole
        faults.reset_peer()

`upstream` spoils what the client sends, `downstream` what it gets. Everything takes effect at once, also on open
connections.
"""

import asyncio
from types import TracebackType
from typing import Self

from tests.support.wire import Wire, WireEnded


class Toxics:
    """The faults of one direction."""

    def __init__(self) -> None:
        self.latency = 0.0
        """Seconds that each piece waits."""
        self.bandwidth = 0.0
        """Bytes a second; 0: unlimited."""
        self.slicer = 65536
        """Largest piece that is passed on at once, in bytes."""
        self.limit_data: int | None = None
        """Bytes of one connection after which it is closed."""
        self._flows = asyncio.Event()
        self._flows.set()

    def stall(self) -> None:
        """Toxiproxy's `timeout`: nothing passes, nothing is closed, until `flow()`."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    async def delay(self, size: int) -> None:
        """Hold a piece of `size` bytes back for as long as the faults ask."""
        await self._flows.wait()
        seconds = self.latency + (size / self.bandwidth if self.bandwidth else 0.0)
        if seconds:
            await asyncio.sleep(seconds)
        await self._flows.wait()


class FaultProxy:
    """Listens on 127.0.0.1:`port` and passes everything on to 127.0.0.1:`target`."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.upstream = Toxics()
        self.downstream = Toxics()
        self.accepted = 0
        """Number of connections so far."""
        self._server: asyncio.Server
        self._wires: set[Wire] = set()
        self._clients: set[Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def up(self) -> None:
        """Accept connections, on the same port as before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Wire(on_open=self._opened), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse new connections and reset the open ones."""
        self._server.close()
        open_wires = list(self._wires)
        self.reset_peer()
        await asyncio.gather(*(wire.closed.wait() for wire in open_wires))
        await self._server.wait_closed()

    def reset_peer(self) -> None:
        """RST on both sides of every open connection."""
        for wire in self._wires:
            wire.reset()

    def half_close(self) -> None:
        """FIN to every client; what they send is still passed on."""
        for wire in self._clients:
            wire.half_close()

    def _opened(self, client: Wire) -> None:
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._serve(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: Wire) -> None:
        server = Wire()
        self._wires.add(client)
        self._clients.add(client)
        try:
            await asyncio.get_running_loop().create_connection(lambda: server, "127.0.0.1", self.target)
            self._wires.add(server)
            await asyncio.gather(_pump(client, server, self.upstream), _pump(server, client, self.downstream))
        except OSError:
            client.reset()
        finally:
            await self._forget(client, server)

    async def _forget(self, client: Wire, server: Wire) -> None:
        for wire in (client, server):
            if wire in self._wires:
                wire.transport.abort()
                self._wires.discard(wire)
        self._clients.discard(client)


async def _pump(source: Wire, sink: Wire, toxics: Toxics) -> None:
    """Pass bytes on until the source ends, then end the sink in the same way."""
    passed = 0
    try:
        while data := await source.read(toxics.slicer):
            await toxics.delay(len(data))
            if toxics.limit_data is not None:
                data = data[: max(0, toxics.limit_data - passed)]
            await sink.write(data)
            passed += len(data)
            if passed == toxics.limit_data:
                source.close()
                sink.close()
                return
    except WireEnded:
        source.reset()
        return
    if source.ended == "rst":
        sink.reset()
    elif not sink.transport.is_closing():
        sink.half_close()
