"""Messages between the supervisor and one worker: JSON over a socket pair, each with its length in front.

A request has an answer, a notice has none. What a worker says is only ever read as JSON: it talks to clients, and must
not be able to do more to its supervisor than mislead it about itself.
"""

import asyncio
import contextlib
import inspect
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

_MAX_MESSAGE = 256 * 1024 * 1024
_LENGTH = 4
_LAST_WORDS = 0.5
_GONE = "it is gone"

log = logging.getLogger("tidegate.workers")

Handler = Callable[..., Any]
"""Gets the details of a message as keyword arguments. What it returns, or raises, is the answer to a request."""


class NoAnswer(Exception):
    """The other side is gone, did not answer in time, or could not do what it was asked for."""


class Channel:
    """One end. Handlers that are plain functions run in the order of the messages, coroutines beside each other."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: Mapping[str, Handler]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, sock: socket.socket, handlers: Mapping[str, Handler]) -> "Channel":
        """Take over one end of a socket pair."""
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        return cls(reader, writer, handlers)

    async def closed(self) -> None:
        """Wait until the other side is gone; its process need not have ended yet."""
        await asyncio.wait([self._reading])

    async def close(self) -> None:
        """Send what is pending, for a moment, and leave. Idempotent."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await self._writer.wait_closed()
        for task in (self._reading, *self._tasks):
            task.cancel()
        await asyncio.gather(self._reading, *self._tasks, return_exceptions=True)

    async def ask(self, what: str, limit: float, **details: Any) -> Any:
        """The answer to a request. Raises NoAnswer, after `limit` seconds at the latest."""
        if self.is_gone:
            raise NoAnswer(_GONE)
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._send({"id": number, "what": what, "details": details})
        try:
            async with asyncio.timeout(limit):
                return await answer
        except TimeoutError:
            raise NoAnswer("no answer in time") from None
        finally:
            del self._waiting[number]

    def tell(self, what: str, **details: Any) -> None:
        """Send a notice. Whoever is gone does not get it."""
        self._send({"what": what, "details": details})

    @property
    def is_backed_up(self) -> bool:
        """Whether the other side has not taken all that was sent."""
        return self.backlog > 0

    @property
    def backlog(self) -> int:
        """Bytes that the other side has not taken and that its socket has no room for."""
        return self._writer.transport.get_write_buffer_size()

    @property
    def is_gone(self) -> bool:
        """Whether there is nobody at the other end any more."""
        return self._reading.done()

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._writer.is_closing():
            return
        data = orjson.dumps(message)
        self._writer.write(len(data).to_bytes(_LENGTH) + data)

    async def _read(self) -> None:
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(_LENGTH))
                if length > _MAX_MESSAGE:
                    raise ValueError("a message is too long")
                self._take(orjson.loads(await self._reader.readexactly(length)))
        except (asyncio.IncompleteReadError, OSError):
            pass
        except (ValueError, KeyError, TypeError, AttributeError):
            log.exception("Bug: what arrives on the control channel makes no sense")
        finally:
            self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(NoAnswer(_GONE))

    def _take(self, message: dict[str, Any]) -> None:
        if "answer" in message:
            self._answered(message)
            return
        number = message.get("id")
        try:
            result = self._handlers[message["what"]](**message["details"])
        except Exception as error:
            self._failed(number, error)
            return
        if not inspect.isawaitable(result):
            self._reply(number, result)
            return
        task = asyncio.create_task(self._handle(number, result))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answered(self, message: dict[str, Any]) -> None:
        answer = self._waiting.get(message["answer"])
        if answer is None or answer.done():
            return  # it came too late
        if "error" in message:
            answer.set_exception(NoAnswer(message["error"]))
        else:
            answer.set_result(message["result"])

    async def _handle(self, number: int | None, result: Awaitable[Any]) -> None:
        try:
            self._reply(number, await result)
        except Exception as error:
            self._failed(number, error)

    def _failed(self, number: int | None, error: Exception) -> None:
        log.error("Bug: a message between supervisor and worker could not be handled", exc_info=error)
        if number is not None:
            self._send({"answer": number, "error": str(error)})

    def _reply(self, number: int | None, result: Any) -> None:
        if number is not None:
            self._send({"answer": number, "result": result})
