"""What proxy/server/ relies on in aiohttp beyond its documentation. A failure here says what has moved."""

import ast
import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest
from aiohttp import EMPTY_PAYLOAD, StreamReader, http_exceptions, http_parser, web, web_protocol
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser

from proxy.server import connection, edge
from proxy.server.connection import Connection
from proxy.server.incoming import Answered, IncomingRequest
from proxy.server.parser_error import MAX_FIELD, MAX_FIELDS, MAX_LINE
from tests.support.client import RawClient

HEAD = b"POST /a HTTP/1.1\r\nHost: h\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"


def parser() -> HttpRequestParser:
    loop = asyncio.get_running_loop()
    return HttpRequestParser(
        BaseProtocol(loop),
        loop,
        65536,
        max_line_size=MAX_LINE,
        max_field_size=MAX_FIELD,
        max_headers=MAX_FIELDS,
        payload_exception=web_protocol.RequestPayloadError,
        auto_decompress=False,
        max_msg_queue_size=web_protocol.MAX_MSG_QUEUE_SIZE,
    )


def paths(messages: Any) -> list[str]:
    return [message.path for message, _ in messages]


# --- names ---


def test_every_name_that_connection_takes_from_aiohttp_is_there() -> None:
    tree = ast.parse(Path(connection.__file__).read_text())
    (body,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Connection")
    used = {
        node.attr
        for node in ast.walk(body)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    taken = used - set(vars(Connection))
    # `super().x` is looked up in the same place.
    taken |= {node.func.attr for node in ast.walk(body) if _is_super_call(node)}  # type: ignore[attr-defined]

    assert {name for name in taken if not hasattr(web.RequestHandler, name)} == set(), "gone from RequestHandler"


def _is_super_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Call)
        and isinstance(node.func.value.func, ast.Name)
        and node.func.value.func.id == "super"
    )


@pytest.mark.parametrize(
    "name",
    [
        "connection_made",
        "connection_lost",
        "data_received",
        "handle_error",
        "_make_error_handler",
        "shutdown",
        "_process_keepalive",
        "force_close",
        "set_parser",
    ],
)
def test_hook_takes_the_same_parameters(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(each, name)) for each in (Connection, web.RequestHandler))

    assert list(ours.parameters) == list(theirs.parameters)


def test_constructors_take_what_we_pass() -> None:
    handler = inspect.signature(web.RequestHandler.__init__).parameters
    wanted = {"loop", "keepalive_timeout", "auto_decompress", "access_log", "max_line_size", "max_field_size"}
    assert wanted | {"max_headers", "lingering_time", "read_bufsize"} <= handler.keys()
    assert {"request_factory", "handler_cancellation"} <= inspect.signature(web.Server.__init__).parameters.keys()


def test_stream_reader_tells_what_we_ask() -> None:
    for name in ("readany", "is_eof", "at_eof", "exception", "set_exception", "total_bytes"):
        assert hasattr(StreamReader, name), f"StreamReader.{name} is gone"
    assert (EMPTY_PAYLOAD.is_eof(), EMPTY_PAYLOAD.total_bytes) == (True, 0)


def test_stand_in_for_what_cannot_be_parsed_is_a_request() -> None:
    assert (web_protocol.ERROR.method, web_protocol.ERROR.path, tuple(web_protocol.ERROR.version)) == (
        "UNKNOWN",
        "/",
        (1, 0),
    )
    assert not any((web_protocol.ERROR.upgrade, web_protocol.ERROR.chunked, web_protocol.ERROR.raw_headers))


# --- the parser ---


def test_the_c_parser_is_in_use() -> None:
    assert HttpRequestParser is not http_parser.HttpRequestParserPy
    assert HttpRequestParser.__module__ == "aiohttp._http_parser"
    assert vars(edge)["HttpRequestParser"] is HttpRequestParser


@pytest.mark.parametrize(
    "data",
    [
        *(HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", HEAD + b"X : y\r\n\r\n"),
        *(HEAD + b"X: y\r\n z\r\n\r\n", HEAD + b"X: y\n\r\n", HEAD + b"Host: h\r\n\r\n", HEAD + b"X: \0\r\n\r\n"),
        *(CHUNKED + b"2 \r\n", CHUNKED + b"2\n", CHUNKED + b"2\r\nabc", CHUNKED + b"0x2\r\n"),
        *(b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\n\r\n", HEAD + b"X: \x01\r\n\r\n"),
    ],
)
async def test_the_parser_is_the_strict_one(data: bytes) -> None:
    with pytest.raises(http_exceptions.HttpProcessingError):
        parser().feed_data(data)


async def test_message_has_the_parts_that_we_read() -> None:
    ((message, payload),), upgraded, tail = parser().feed_data(CHUNKED)

    assert (message.method, message.path, tuple(message.version)) == ("POST", "/a", (1, 1))
    assert message.raw_headers == ((b"Host", b"h"), (b"Transfer-Encoding", b"chunked"))
    assert (bool(message.chunked), bool(message.upgrade), message.should_close) == (True, False, False)
    assert (payload.is_eof(), upgraded, tail, message.headers["HOST"]) == (False, False, b"", "h")


async def test_errors_tell_what_was_too_long() -> None:
    with pytest.raises(http_exceptions.LineTooLong) as line:
        parser().feed_data(b"GET /" + b"a" * MAX_LINE + b" HTTP/1.1\r\n")
    with pytest.raises(http_exceptions.LineTooLong) as field:
        parser().feed_data(HEAD + b"X: " + b"a" * (MAX_FIELD + 1) + b"\r\n")
    with pytest.raises(http_exceptions.BadHttpMessage, match=r"(?i)too many headers"):
        parser().feed_data(HEAD + b"X: y\r\n" * (MAX_FIELDS + 1) + b"\r\n")

    assert (line.value.args[1], field.value.args[1]) == (MAX_LINE, MAX_FIELD)


async def test_error_shows_the_request_line_of_an_unknown_method() -> None:
    with pytest.raises(http_exceptions.BadHttpMethod) as raised:
        parser().feed_data(b"FOO /a HTTP/1.1\r\nHost: h\r\n\r\n")

    assert "\n  b'FOO /a HTTP/1.1'\n" in raised.value.message


async def test_parser_stops_at_a_full_queue_and_goes_on_when_told() -> None:
    peer = parser()
    first, _, _ = peer.feed_data(NEXT * 100)
    nothing, _, _ = peer.feed_data(b"")
    peer.message_consumed()
    one, _, _ = peer.feed_data(b"")

    assert (len(first), len(nothing), len(one)) == (web_protocol.MAX_MSG_QUEUE_SIZE, 1, 1)


async def test_parser_stops_behind_a_websocket_request_alone() -> None:
    upgrade = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    messages, upgraded, tail = parser().feed_data(upgrade + b"frames")

    assert (paths(messages), upgraded, tail) == (["/a"], True, b"frames")


# --- its faults: where one of these fails, proxy/server/boundary.py has a reason less ---


async def test_fault_last_trailer_becomes_the_first_field_of_the_next_message() -> None:
    messages, _, _ = parser().feed_data(CHUNKED + b"0\r\nX: 1\r\nY: 2\r\n\r\n" + NEXT)

    assert messages[1][0].raw_headers[0] == (b"Y", b"2")


async def test_fault_bytes_behind_another_upgrade_are_lost() -> None:
    peer = parser()
    upgrade = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n"
    lost, upgraded, tail = peer.feed_data(upgrade + NEXT)
    later, _, _ = peer.feed_data(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n")

    assert (paths(lost), upgraded, tail, paths(later)) == (["/a"], False, b"", ["/later"])


async def test_fault_body_that_breaks_is_not_told() -> None:
    peer = parser()
    ((_, payload),), _, _ = peer.feed_data(CHUNKED)
    with pytest.raises(http_exceptions.HttpProcessingError):
        peer.feed_data(b"x\r\n")

    assert (payload.is_eof(), payload.exception()) == (False, None)


# --- the request loop ---


class Recorder(web.Server):
    """aiohttp's own loop around our request and answer, writing down who is called."""

    def __init__(self) -> None:
        super().__init__(self.answer, request_factory=self.take)  # type: ignore[arg-type]
        self.calls: list[str] = []

    def take(self, *parts: Any) -> IncomingRequest:
        calls = self.calls

        class Request(IncomingRequest):
            def _finish(self) -> None:
                calls.append("finish")

        request = Request(*parts)
        calls.append(f"take {request.message.path}")
        return request

    async def answer(self, request: IncomingRequest) -> Answered:
        calls = self.calls

        class Answer(Answered):
            async def prepare(self, _request: object) -> None:
                calls.append("prepare")

            async def write_eof(self) -> None:
                calls.append("write_eof")

        calls.append("answer")
        assert request.connection.transport is not None
        request.connection.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        return Answer(keep_alive=request.message.path == "/first")


@pytest.mark.both_loops
async def test_request_loop_calls_in_the_order_that_we_expect() -> None:
    recorder = Recorder()
    server = await asyncio.get_running_loop().create_server(recorder, "127.0.0.1", 0)
    async with server, RawClient(server.sockets[0].getsockname()[1]) as client:
        await client.send(NEXT.replace(b"/next", b"/first") + NEXT)
        for _ in range(2):
            assert (await client.read_response()).status == 204
        assert await client.ended_within() == "fin"

    one = ["answer", "finish", "prepare", "write_eof"]
    assert recorder.calls == ["take /first", *one, "take /next", *one]


@pytest.mark.both_loops
async def test_request_loop_asks_for_an_error_handler() -> None:
    seen: list[Any] = []

    class Handler(web.RequestHandler):
        __slots__ = ()

        def _make_error_handler(self, err_info: Any) -> Any:
            seen.append(err_info.exc)
            return recorder.answer

    recorder = Recorder()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Handler(recorder, loop=loop), "127.0.0.1", 0)
    async with server, RawClient(server.sockets[0].getsockname()[1]) as client:
        await client.send(b"nonsense\r\n\r\n")
        assert (await client.read_response()).status == 204
        assert await client.ended_within() == "fin"

    assert [type(each) for each in seen] == [http_exceptions.BadHttpMethod]
