"""The one place where errors become responses."""

import logging

import orjson
import pytest

from proxy.errors import ClientDisconnected, ConnectionRefused, MethodNotAllowed
from proxy.exchange import Response
from proxy.rescue import Rescue
from tests.support.exchange import ScriptedHandler, make_exchange


async def test_response_passes_untouched() -> None:
    response = Response(204, [])

    assert await Rescue(ScriptedHandler(response)).handle(make_exchange()) is response


async def test_error_becomes_a_problem_and_stays_with_the_exchange() -> None:
    exchange, error = make_exchange(), ConnectionRefused(cause="127.0.0.1:9 refused")
    exchange.request_id = "id-1"

    response = await Rescue(ScriptedHandler(error)).handle(exchange)

    assert response.status == 502
    assert exchange.error is error
    assert isinstance(response.body, bytes)
    problem = orjson.loads(response.body)
    assert (problem["type"], problem["request_id"]) == ("urn:tidegate:problem:connection-refused", "id-1")
    assert b"127.0.0.1" not in response.body
    assert (b"Proxy-Status", b"tidegate;error=connection_refused") in response.headers


async def test_status_that_the_upstream_had_sent_is_reported() -> None:
    exchange = make_exchange()
    exchange.upstream_status = 200

    response = await Rescue(ScriptedHandler(ConnectionRefused())).handle(exchange)

    assert (b"Proxy-Status", b"tidegate;error=connection_refused;received-status=200") in response.headers


async def test_allowed_methods_are_named() -> None:
    response = await Rescue(ScriptedHandler(MethodNotAllowed(allow="GET, HEAD"))).handle(make_exchange())

    assert (b"Allow", b"GET, HEAD") in response.headers


async def test_bug_is_a_500_without_details_and_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    exchange = make_exchange()

    with caplog.at_level(logging.ERROR):
        response = await Rescue(ScriptedHandler(KeyError("secret"))).handle(exchange)

    assert response.status == 500
    assert isinstance(response.body, bytes)
    assert b"secret" not in response.body
    assert caplog.records[0].exc_info is not None


async def test_client_that_has_left_gets_no_answer() -> None:
    exchange, gone = make_exchange(), ClientDisconnected()

    with pytest.raises(ClientDisconnected):
        await Rescue(ScriptedHandler(gone)).handle(exchange)

    assert exchange.error is gone
