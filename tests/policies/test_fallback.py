"""What stands in for a failure, what never does, and what the answer says about itself."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.config.policies import FallbackConfig
from proxy.config.policy_types import Mode
from proxy.errors import (
    BreakerOpen,
    BulkheadFull,
    ClientDisconnected,
    ConnectionRefused,
    ConnectionTimeout,
    CoolingDown,
    DeadlineExceeded,
    InternalError,
    NotFound,
    ProxyError,
    RateLimited,
    RequestTimeout,
    UpstreamTimeout,
)
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.fallback import Fallback
from proxy.policies.fallback_steps import MAX_FILE, build_steps
from proxy.telemetry.instruments import RouteMetrics
from tests.support.clock import ManualClock
from tests.support.exchange import PiecewiseBody, ScriptedHandler, make_exchange

NO_UPSTREAMS: Mapping[str, Handler] = {}
NULL = {"static": {"body": {"prediction": None, "degraded": True}}}


class Setting:
    """A fallback around an inner handler, and all that it may use."""

    def __init__(
        self,
        inner: Handler,
        *steps: dict[str, Any],
        mode: Mode = "enforce",
        upstreams: Mapping[str, Handler] | None = None,
        **config: Any,
    ) -> None:
        self.metrics = RouteMetrics("test")
        self.clock = ManualClock()
        settings = FallbackConfig.model_validate({"steps": steps or (NULL,), **config})
        self.layer = Fallback(
            inner, settings, build_steps(settings, (upstreams or {}).__getitem__, self.clock), self.metrics, mode=mode
        )

    async def answer(self, exchange: Exchange | None = None) -> Response:
        return await self.layer.handle(exchange or make_exchange())


def field(response: Response, name: bytes) -> bytes | None:
    """The only field of that name."""
    values = [value for each, value in response.headers if each.lower() == name.lower()]
    assert len(values) < 2, values
    return values[0] if values else None


def told(exchange: Exchange) -> list[tuple[str, str, str, str]]:
    return [(each.policy, each.decision, each.mode, each.detail) for each in exchange.decisions or ()]


def closable(
    status: int, headers: list[tuple[bytes, bytes]] | None = None, body: bytes | PiecewiseBody = b"failed"
) -> tuple[Response, list[int]]:
    """A response and, once it is closed, its status."""
    closed: list[int] = []
    response = Response(status, headers or [], body)
    response.on_close(lambda: closed.append(status))
    return response, closed


# --- when -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        BreakerOpen(),
        BulkheadFull(),
        ConnectionRefused(),
        ConnectionTimeout(),
        CoolingDown(),
        DeadlineExceeded(),
        UpstreamTimeout("total"),
    ],
    ids=lambda error: error.slug,
)
async def test_refusals_of_ours_and_errors_of_the_upstream_are_replaced(error: ProxyError) -> None:
    exchange, setting = make_exchange(), Setting(ScriptedHandler(error))

    response = await setting.answer(exchange)

    assert response.status == 200
    assert response.body == b'{"prediction":null,"degraded":true}'
    assert told(exchange) == [("fallback", "static", "enforce", error.slug)]
    assert setting.metrics.fallbacks == {"static": 1}
    assert exchange.error is None


@pytest.mark.parametrize("body", [b"failed", PiecewiseBody(b"failed")], ids=["in-memory", "streamed"])
@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_failures_of_the_upstream_are_replaced_and_closed(status: int, body: bytes | PiecewiseBody) -> None:
    failed, closed = closable(status, body=body)
    exchange = make_exchange()

    response = await Setting(ScriptedHandler(failed)).answer(exchange)

    assert response.status == 200
    assert closed == [status]
    assert told(exchange) == [("fallback", "static", "enforce", f"status {status}")]


@pytest.mark.parametrize("status", [200, 206, 304, 400, 404, 408, 409, 425, 429, 499, 501, 505, 507, 599, 999])
async def test_every_other_status_passes_untouched(status: int) -> None:
    response, closed = closable(status, [(b"X", b"y")])
    exchange, setting = make_exchange(), Setting(ScriptedHandler(response))

    assert await setting.answer(exchange) is response

    assert (response.headers, closed) == ([(b"X", b"y")], [])
    assert exchange.decisions is None
    assert setting.metrics.fallbacks == {}


@pytest.mark.parametrize(
    "error",
    [
        ClientDisconnected(),
        InternalError(),
        NotFound(),
        ProxyError(),
        RateLimited(),
        RequestTimeout(),
        KeyError("a bug"),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_the_clients_a_bug_or_a_cancellation_passes(error: BaseException) -> None:
    async def fail(_exchange: Exchange) -> Response:
        raise error

    exchange = make_exchange()

    with pytest.raises(type(error)) as raised:
        await Setting(ScriptedHandler(fail)).answer(exchange)

    assert raised.value is error
    assert exchange.decisions is None


@pytest.mark.parametrize(
    ("method", "methods", "covered"),
    [
        ("GET", None, True),
        ("HEAD", None, True),
        ("POST", None, False),
        ("OPTIONS", None, False),
        ("POST", ("POST",), True),
        ("GET", ("POST",), False),
    ],
)
async def test_only_the_methods_of_the_configuration_are_covered(
    method: str, methods: tuple[str, ...] | None, covered: bool
) -> None:
    config: dict[str, Any] = {} if methods is None else {"methods": methods}
    failing = Setting(ScriptedHandler(ConnectionRefused()), **config)
    failed, closed = closable(503)
    answering = Setting(ScriptedHandler(failed), **config)

    assert ((await answering.answer(make_exchange(method))).status == 200) is covered
    assert bool(closed) is covered
    if covered:
        assert (await failing.answer(make_exchange(method))).status == 200
    else:
        with pytest.raises(ConnectionRefused):
            await failing.answer(make_exchange(method))


async def test_a_websocket_that_cannot_be_opened_is_told_why() -> None:
    exchange = make_exchange()
    exchange.request.upgrade = True

    with pytest.raises(BreakerOpen):
        await Setting(ScriptedHandler(BreakerOpen())).answer(exchange)


# --- the order ------------------------------------------------------------------------------------------------------


async def test_the_first_step_with_an_answer_wins() -> None:
    other = ScriptedHandler(Response(200, [], b"from elsewhere"))
    setting = Setting(ScriptedHandler(BreakerOpen()), {"upstream": "b"}, NULL, upstreams={"b": other})

    assert (await setting.answer()).body == b"from elsewhere"

    assert setting.metrics.fallbacks == {"upstream": 1}


async def test_a_step_without_an_answer_makes_room_for_the_next() -> None:
    exchange = make_exchange()
    setting = Setting(
        ScriptedHandler(BreakerOpen()), {"upstream": "b"}, NULL, upstreams={"b": ScriptedHandler(ConnectionRefused())}
    )

    assert field(await setting.answer(exchange), b"X-Degraded") == b"static"

    assert told(exchange) == [("fallback", "static", "enforce", "breaker-open")]


async def test_error_passes_on_when_no_step_has_an_answer() -> None:
    error = BreakerOpen()
    other = ScriptedHandler(ConnectionRefused())
    exchange, setting = (
        make_exchange(),
        Setting(ScriptedHandler(error), {"upstream": "b"}, upstreams={"b": other}),
    )

    with pytest.raises(BreakerOpen) as raised:
        await setting.answer(exchange)

    assert raised.value is error
    assert len(other.exchanges) == 1
    assert exchange.decisions is None
    assert setting.metrics.fallbacks == {}


async def test_response_passes_on_open_and_untouched_when_no_step_has_an_answer() -> None:
    body = PiecewiseBody(b"failed")
    failed, closed = closable(503, [(b"Retry-After", b"7")], body)
    other_failed, other_closed = closable(500)
    exchange = make_exchange()
    exchange.upstream_name, exchange.upstream_status, exchange.deadline = "a", 503, 9999.0

    async def other(exchange: Exchange) -> Response:
        exchange.upstream_name, exchange.upstream_endpoint, exchange.upstream_status = "b", "b:1", 500
        exchange.upstream_seconds, exchange.deadline = 3.0, None
        return other_failed

    setting = Setting(ScriptedHandler(failed), {"upstream": "b"}, upstreams={"b": ScriptedHandler(other)})

    assert await setting.answer(exchange) is failed

    assert (failed.headers, failed.body, closed) == ([(b"Retry-After", b"7")], body, [])
    assert other_closed == [500]
    assert (exchange.upstream_name, exchange.upstream_endpoint, exchange.upstream_status) == ("a", "", 503)
    assert (exchange.upstream_seconds, exchange.deadline) == (0.0, 9999.0)


@pytest.mark.parametrize("answers", [True, False])
async def test_deadline_that_a_failed_event_stream_has_lifted_holds_for_what_replaces_it(answers: bool) -> None:
    async def stream(exchange: Exchange) -> Response:
        exchange.deadline = None
        return Response(503, [(b"Content-Type", b"text/event-stream")])

    other = ScriptedHandler(Response(200 if answers else 500, []))
    setting = Setting(ScriptedHandler(stream), {"upstream": "b"}, upstreams={"b": other})
    exchange = make_exchange()
    exchange.deadline = setting.clock.now + 1

    response = await setting.answer(exchange)

    assert exchange.attempt_deadline == setting.clock.now + 1
    assert (response.status, exchange.deadline) == ((200, setting.clock.now + 1) if answers else (503, None))


async def test_deadline_that_an_event_stream_has_lifted_before_an_error_holds_for_what_replaces_it() -> None:
    async def lift_and_fail(exchange: Exchange) -> Response:
        exchange.deadline = None
        raise DeadlineExceeded

    other = ScriptedHandler(Response(200, []))
    setting = Setting(ScriptedHandler(lift_and_fail), {"upstream": "b"}, upstreams={"b": other})
    exchange = make_exchange()
    exchange.deadline = setting.clock.now + 1

    await setting.answer(exchange)

    assert exchange.attempt_deadline == setting.clock.now + 1


async def test_deadline_that_one_other_upstream_has_lifted_holds_for_the_next() -> None:
    async def stream(exchange: Exchange) -> Response:
        exchange.deadline = None
        return Response(500, [(b"Content-Type", b"text/event-stream")])

    last = ScriptedHandler(Response(200, []))
    upstreams = {"b": ScriptedHandler(stream), "c": last}
    setting = Setting(ScriptedHandler(BreakerOpen()), {"upstream": "b"}, {"upstream": "c"}, upstreams=upstreams)
    exchange = make_exchange()
    exchange.deadline = setting.clock.now + 1

    await setting.answer(exchange)

    assert exchange.attempt_deadline == setting.clock.now + 1


async def test_failure_in_memory_holds_nothing_while_the_steps_are_tried() -> None:
    failed, closed = closable(503)

    async def look(_exchange: Exchange) -> Response:
        assert closed == [503]
        return Response(500, [])

    setting = Setting(ScriptedHandler(failed), {"upstream": "b"}, upstreams={"b": ScriptedHandler(look)})

    assert await setting.answer() is failed
    assert failed.body == b"failed"


async def test_failed_response_is_closed_when_the_client_leaves_during_a_step() -> None:
    failed, closed = closable(503, body=PiecewiseBody(b"failed"))
    waiting = asyncio.Event()

    async def hang(_exchange: Exchange) -> Response:
        waiting.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    setting = Setting(ScriptedHandler(failed), {"upstream": "b"}, upstreams={"b": ScriptedHandler(hang)})
    task = asyncio.ensure_future(setting.answer())
    await waiting.wait()
    assert closed == []

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert closed == [503]


# --- what the answer says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "received", "expected"),
    [
        (BreakerOpen(), 0, b'tidegate;error=destination_unavailable;details="fallback: static"'),
        (BulkheadFull(), 0, b'tidegate;error=connection_limit_reached;details="fallback: static"'),
        (
            ConnectionRefused(cause="127.0.0.1:9"),
            503,
            b'tidegate;error=connection_refused;received-status=503;details="fallback: static"',
        ),
        (UpstreamTimeout("total"), 0, b'tidegate;error=http_response_timeout;details="fallback: static"'),
        (Response(503, []), 503, b'tidegate;received-status=503;details="fallback: static"'),
        (Response(500, []), 0, b'tidegate;received-status=500;details="fallback: static"'),
    ],
)
async def test_answer_of_ours_is_marked_with_the_failure_behind_it(
    failure: Response | Exception, received: int, expected: bytes
) -> None:
    exchange = make_exchange()
    exchange.upstream_status = received

    response = await Setting(ScriptedHandler(failure)).answer(exchange)

    assert field(response, b"Proxy-Status") == expected
    assert field(response, b"X-Degraded") == b"static"
    assert field(response, b"Cache-Control") == b"no-store"


async def test_answer_of_another_upstream_is_marked_without_claiming_that_it_is_ours() -> None:
    headers = [
        (b"Content-Type", b"application/json"),
        (b"cache-control", b"public, max-age=3600"),
        (b"Expires", b"Thu, 01 Jan 2099 00:00:00 GMT"),
        (b"CDN-Cache-Control", b"max-age=60"),
        (b"Surrogate-Control", b"max-age=60"),
        (b"X-Degraded", b"no"),
        (b"Proxy-Status", b"other;received-status=200"),
        (b"ETag", b'"1"'),
    ]
    other = ScriptedHandler(Response(404, headers, b"{}"))
    setting = Setting(ScriptedHandler(ConnectionRefused()), {"upstream": "b"}, upstreams={"b": other})

    response = await setting.answer()

    assert (response.status, response.body) == (404, b"{}")
    assert response.headers == [
        (b"Content-Type", b"application/json"),
        (b"Proxy-Status", b"other;received-status=200"),
        (b"ETag", b'"1"'),
        (b"Cache-Control", b"no-store"),
        (b"X-Degraded", b"upstream"),
        (b"Proxy-Status", b'tidegate;details="fallback: upstream, after connection-refused"'),
    ]


# --- static, file, null_fields --------------------------------------------------------------------------------------


async def fields_of(step: dict[str, Any]) -> tuple[int, bytes | None, bytes]:
    """Status, Content-Type and body of a step's answer."""
    response = await Setting(ScriptedHandler(BreakerOpen()), step).answer()
    assert isinstance(response.body, bytes)
    return response.status, field(response, b"Content-Type"), response.body


TEXT, JSON = b"text/plain; charset=utf-8", b"application/json"


@pytest.mark.parametrize(
    ("static", "expected"),
    [
        ({}, (200, None, b"")),
        ({"status": 204}, (204, None, b"")),
        ({"body": "später"}, (200, TEXT, "später".encode())),
        ({"status": 503, "body": "later"}, (503, TEXT, b"later")),
        ({"body": None}, (200, JSON, b"null")),
        ({"body": []}, (200, JSON, b"[]")),
        ({"body": False}, (200, JSON, b"false")),
        ({"body": {"a": [1, 2.5, "ü"]}}, (200, JSON, '{"a":[1,2.5,"ü"]}'.encode())),
        ({"body": "<p>", "headers": {"content-type": "text/html"}}, (200, b"text/html", b"<p>")),
    ],
)
async def test_static_answers_with_what_is_written(
    static: dict[str, Any], expected: tuple[int, bytes | None, bytes]
) -> None:
    assert await fields_of({"static": static}) == expected


async def test_static_cannot_make_itself_fresh() -> None:
    static = {"headers": {"Cache-Control": "max-age=60", "X-Reason": "later"}}

    response = await Setting(ScriptedHandler(BreakerOpen()), {"static": static}).answer()

    assert field(response, b"Cache-Control") == b"no-store"
    assert field(response, b"X-Reason") == b"later"


async def test_one_answer_does_not_change_the_next() -> None:
    setting = Setting(ScriptedHandler(BreakerOpen()))

    first = await setting.answer()
    first.headers.append((b"X", b"y"))

    assert field(await setting.answer(), b"X") is None


@pytest.mark.parametrize(
    ("name", "options", "content_type"),
    [
        ("demo.json", {}, JSON),
        ("demo.HTML", {}, b"text/html; charset=utf-8"),
        ("demo.bin", {}, b"application/octet-stream"),
        ("demo", {}, b"application/octet-stream"),
        ("demo.json", {"content_type": "application/geo+json", "status": 203}, b"application/geo+json"),
    ],
)
async def test_file_answers_with_what_it_held_when_the_configuration_was_loaded(
    tmp_path: Path, name: str, options: dict[str, Any], content_type: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(b"\x00[]")
    setting = Setting(ScriptedHandler(BreakerOpen()), {"file": {"path": str(file), **options}})
    file.unlink()

    response = await setting.answer()

    assert (response.status, response.body) == (options.get("status", 200), b"\x00[]")
    assert field(response, b"Content-Type") == content_type
    assert field(response, b"X-Degraded") == b"file"


def test_file_may_fill_the_limit_and_no_more(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    config = FallbackConfig.model_validate({"steps": ({"file": {"path": str(file)}},)})
    file.write_bytes(b"x" * MAX_FILE)
    (step,) = build_steps(config, NO_UPSTREAMS.__getitem__)
    assert repr(step) == f"<Fixed file status=200 bytes={MAX_FILE}>"

    file.write_bytes(b"x" * (MAX_FILE + 1))
    with pytest.raises(OSError, match="larger than 1048576 bytes"):
        build_steps(config, NO_UPSTREAMS.__getitem__)


def test_file_that_is_not_there_is_an_error_of_the_load(tmp_path: Path) -> None:
    config = FallbackConfig.model_validate({"steps": ({"file": {"path": str(tmp_path / "gone.json")}},)})

    with pytest.raises(FileNotFoundError):
        build_steps(config, NO_UPSTREAMS.__getitem__)


def test_step_without_a_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="exactly one kind"):
        build_steps(FallbackConfig.model_validate({"steps": ({},)}), NO_UPSTREAMS.__getitem__)


async def test_null_fields_answers_with_an_object() -> None:
    response = await Setting(ScriptedHandler(BreakerOpen()), {"null_fields": ("prediction", "confidence")}).answer()

    assert isinstance(response.body, bytes)
    assert orjson.loads(response.body) == {"prediction": None, "confidence": None, "degraded": True}
    assert (response.status, field(response, b"Content-Type")) == (200, JSON)
    assert field(response, b"X-Degraded") == b"null_fields"


# --- another upstream -----------------------------------------------------------------------------------------------


async def test_other_upstream_gets_what_is_left_of_the_deadline_and_the_next_number() -> None:
    other = ScriptedHandler(Response(200, [], b"b"))
    setting = Setting(ScriptedHandler(BreakerOpen()), {"upstream": "b"}, upstreams={"b": other})
    exchange = make_exchange()
    exchange.attempt = 2
    exchange.deadline = setting.clock.now + 3.0

    assert (await setting.answer(exchange)).body == b"b"

    assert exchange.attempt == 3
    assert exchange.attempt_deadline == exchange.deadline


async def test_other_upstream_is_not_asked_after_the_deadline() -> None:
    other = ScriptedHandler()
    setting = Setting(ScriptedHandler(UpstreamTimeout("total")), {"upstream": "b"}, NULL, upstreams={"b": other})
    exchange = make_exchange()
    exchange.deadline = setting.clock.now

    assert field(await setting.answer(exchange), b"X-Degraded") == b"static"

    assert other.exchanges == []


@pytest.mark.parametrize(("read", "asked"), [(False, True), (True, False)])
async def test_other_upstream_gets_a_body_that_nobody_has_had(read: bool, asked: bool) -> None:
    async def refuse(exchange: Exchange) -> Response:
        if read and exchange.request.body is not None:
            await exchange.request.body.read()
        raise BreakerOpen

    other = ScriptedHandler(Response(200, [], b"b"))
    setting = Setting(ScriptedHandler(refuse), {"upstream": "b"}, NULL, upstreams={"b": other})

    response = await setting.answer(make_exchange("GET", body=PiecewiseBody(b"a", content_length=1)))

    assert (field(response, b"X-Degraded") == b"upstream") is asked
    assert len(other.exchanges) == asked


@pytest.mark.parametrize("error", [ClientDisconnected(), InternalError(), KeyError("a bug")])
async def test_end_of_the_client_and_bugs_pass_through_a_step(error: Exception) -> None:
    failed, closed = closable(503)
    setting = Setting(ScriptedHandler(failed), {"upstream": "b"}, NULL, upstreams={"b": ScriptedHandler(error)})

    with pytest.raises(type(error)):
        await setting.answer()

    assert closed == [503]


# --- shadow ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [BreakerOpen(), Response(503, [(b"X", b"y")], b"failed")])
async def test_shadow_reports_and_passes_the_failure_on(failure: Response | Exception) -> None:
    other = ScriptedHandler()
    setting = Setting(ScriptedHandler(failure), {"upstream": "b"}, NULL, upstreams={"b": other}, mode="shadow")
    exchange = make_exchange()

    if isinstance(failure, Response):
        assert await setting.answer(exchange) is failure
        assert (failure.headers, failure.body) == ([(b"X", b"y")], b"failed")
    else:
        with pytest.raises(BreakerOpen):
            await setting.answer(exchange)

    assert [each[:3] for each in told(exchange)] == [("fallback", "upstream", "shadow")]
    assert other.exchanges == []
    assert setting.metrics.fallbacks == {}


async def test_shadow_names_the_first_step_that_would_be_tried() -> None:
    setting = Setting(
        ScriptedHandler(UpstreamTimeout("total")),
        {"upstream": "b"},
        NULL,
        upstreams={"b": ScriptedHandler()},
        mode="shadow",
    )
    exchange = make_exchange()
    exchange.deadline = setting.clock.now

    with pytest.raises(UpstreamTimeout):
        await setting.answer(exchange)

    assert told(exchange) == [("fallback", "static", "shadow", "upstream-timeout")]


async def test_shadow_has_nothing_to_report_when_no_step_is_possible() -> None:
    setting = Setting(
        ScriptedHandler(BreakerOpen()), {"upstream": "b"}, upstreams={"b": ScriptedHandler()}, mode="shadow"
    )
    exchange = make_exchange()
    exchange.deadline = setting.clock.now

    with pytest.raises(BreakerOpen):
        await setting.answer(exchange)

    assert exchange.decisions is None


def test_layer_says_what_it_is() -> None:
    assert repr(Setting(ScriptedHandler()).layer) == "<Fallback ['static'] enforces=True>"


def test_clock_of_a_running_instance_is_the_monotonic_one() -> None:
    config = FallbackConfig.model_validate({"steps": ({"upstream": "b"},)})
    (step,) = build_steps(config, {"b": ScriptedHandler()}.__getitem__)
    exchange = make_exchange()

    exchange.deadline = time.monotonic() + 60
    assert step.is_possible(exchange)
    exchange.deadline = time.monotonic()
    assert not step.is_possible(exchange)
