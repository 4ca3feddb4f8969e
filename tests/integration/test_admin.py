"""The admin and the health listener on real sockets: what they show, and whom they refuse."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy import __version__
from proxy.admin import listener
from proxy.admin.breakers import BreakerStatus, ForcedState
from proxy.admin.cache_view import NO_CACHE, CacheStatus, EntryReport, Purged, SelectionKind, Warming
from proxy.admin.server import AdminServer, HealthServer
from proxy.admin.view import Readiness, RouteView
from proxy.config.addresses import ListenAddress
from proxy.config.model import AdminConfig
from proxy.config.types import Secret
from proxy.telemetry.build import build_info
from proxy.telemetry.events import ReloadEvent
from proxy.telemetry.registry import Metrics
from tests.support.client import RawClient, fetch
from tests.support.leaks import open_fds
from tests.support.messages import Response
from tests.support.waiting import eventually

LOOPBACK = ListenAddress("127.0.0.1", 0)
EVERYWHERE = ListenAddress("0.0.0.0", 0)
ADMIN_PATHS = ("/metrics", "/healthz", "/readyz", "/routes", "/config", "/version")
PROBES = ("/healthz", "/readyz")


class View:
    """A process that does what the test says."""

    def __init__(self) -> None:
        self.telemetry = Metrics(build_info())
        self.readiness = Readiness(True, (), {"draining": False})
        self.reloads: list[ReloadEvent | Exception] = []
        self.may_reload = asyncio.Event()
        self.may_reload.set()
        self.reloading = asyncio.Event()
        self.huge = b""
        self.scraped = asyncio.Event()

    def ready(self) -> Readiness:
        return self.readiness

    def config(self) -> dict[str, Any]:
        return {"redis": {"url": "***"}}

    async def routes(self) -> list[RouteView]:
        statistics = self.telemetry.route("search").statistics()
        return [
            RouteView("search", ("GET /search",), "api", {"total": 15.0, "attempt": None}, ("retry",), 0, statistics)
        ]

    async def metrics(self) -> tuple[bytes, str]:
        self.scraped.set()
        body, content_type = self.telemetry.expose()
        return self.huge or body, content_type

    async def breakers(self) -> list[BreakerStatus]:
        return []

    async def force_breaker(self, name: str, state: ForcedState, seconds: float) -> bool:
        return False

    async def release_breaker(self, name: str) -> bool:
        return False

    async def purge(self, kind: SelectionKind, values: Sequence[str], *, soft: bool) -> Purged:
        return Purged(problem=NO_CACHE)

    async def caches(self) -> list[CacheStatus]:
        return []

    async def cache_entry(self, url: str) -> EntryReport:
        return EntryReport(reason=NO_CACHE)

    async def warm(self) -> Warming:
        return "off"

    async def reload(self) -> ReloadEvent:
        self.reloading.set()
        await self.may_reload.wait()
        outcome = self.reloads.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def view() -> View:
    return View()


@contextlib.asynccontextmanager
async def admin(view: View, **config: Any) -> AsyncIterator[int]:
    """Port of a running admin listener."""
    server = AdminServer(view, AdminConfig(**{"listen": LOOPBACK} | config))
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def health(view: View) -> AsyncIterator[int]:
    """Port of a running health listener."""
    server = HealthServer(view, LOOPBACK)
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


def assert_problem(response: Response, status: int) -> None:
    assert response.status == status
    assert response.header("Content-Type") == "application/problem+json"
    assert response.json()["status"] == status
    assert_safe_headers(response)


def assert_safe_headers(response: Response) -> None:
    assert response.header("Server") == "tidegate"
    assert response.header("Cache-Control") == "no-store"
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert (response.header("Content-Security-Policy") or "").startswith("default-src 'none'")


# --- what it shows --------------------------------------------------------------------------------------------------


async def test_metrics_are_prometheus_text(view: View) -> None:
    view.telemetry.route("search")

    async with admin(view) as port:
        response = await fetch(port, "GET", "/metrics")

    assert response.status == 200
    assert response.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert b'\nproxy_requests_total{route="search",status="2xx"} 0\n' in response.body


async def test_ready_process_answers_200_with_details(view: View) -> None:
    async with admin(view) as port:
        response = await fetch(port, "GET", "/readyz")

    assert (response.status, response.json()) == (200, {"ready": True, "reasons": [], "draining": False})


async def test_process_that_is_not_ready_says_why_and_stays_alive(view: View) -> None:
    view.readiness = Readiness(False, ("draining",))

    async with admin(view) as port:
        ready, alive = await fetch(port, "GET", "/readyz"), await fetch(port, "GET", "/healthz")

    assert (ready.status, ready.json()["reasons"]) == (503, ["draining"])
    assert alive.status == 200


async def test_routes_show_their_statistics(view: View) -> None:
    view.telemetry.route("search").recent.extend([0.1, 0.3])

    async with admin(view) as port:
        (route,) = (await fetch(port, "GET", "/routes")).json()["routes"]

    assert route["name"] == "search"
    assert route["timeouts"] == {"total": 15.0, "attempt": None}
    assert route["statistics"]["p95"] == 0.3


async def test_config_and_version_are_shown(view: View) -> None:
    async with admin(view) as port:
        config, version = await fetch(port, "GET", "/config"), await fetch(port, "GET", "/version")

    assert config.json() == {"redis": {"url": "***"}}
    assert version.json()["version"] == __version__


@pytest.mark.parametrize("path", ADMIN_PATHS)
async def test_head_has_the_head_of_get(view: View, path: str) -> None:
    async with admin(view) as port, RawClient(port) as client:
        head = await client.request("HEAD", path)
        get = await client.request("GET", path)

    assert (head.status, head.body) == (get.status, b"")
    assert head.header("Content-Type") == get.header("Content-Type")
    assert_safe_headers(get)


async def test_unix_socket_serves_whoever_may_open_it(view: View, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    server = AdminServer(view, AdminConfig(listen=ListenAddress("", 0, str(path)), allow=(ip_network("10.0.0.0/8"),)))
    await server.start()

    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession(connector=connector) as session, session.get("http://any/version") as response:
        status = response.status
    await server.stop()

    assert status == 200


async def test_address_in_use_is_an_error(view: View) -> None:
    async with admin(view) as port:
        server = AdminServer(view, AdminConfig(listen=ListenAddress("127.0.0.1", port)))

        with pytest.raises(OSError, match="address already in use"):
            await server.start()
        await server.stop()


# --- reload ---------------------------------------------------------------------------------------------------------


async def test_reload_answers_with_the_new_digest(view: View) -> None:
    view.reloads = [ReloadEvent(True, "abc", "", 0.0, changes=("retry search: new",))]

    async with admin(view) as port:
        response = await fetch(port, "POST", "/reload")

    assert (response.status, response.json()) == (200, {"digest": "abc", "changes": ["retry search: new"]})


async def test_refused_reload_is_422_with_the_problems(view: View) -> None:
    view.reloads = [ReloadEvent(False, "abc", "policies.yaml:3:5: unknown key", 0.0)]

    async with admin(view) as port:
        response = await fetch(port, "POST", "/reload")

    assert_problem(response, 422)
    assert response.json()["detail"] == "policies.yaml:3:5: unknown key"


async def test_second_reload_at_the_same_time_is_409(view: View) -> None:
    view.reloads = [ReloadEvent(True, "abc", "", 0.0)] * 2
    view.may_reload.clear()

    async with admin(view) as port:
        first = asyncio.create_task(fetch(port, "POST", "/reload"))
        await view.reloading.wait()
        second = await fetch(port, "POST", "/reload")
        view.may_reload.set()

        assert_problem(second, 409)
        assert (await first).status == 200
        assert (await fetch(port, "POST", "/reload")).status == 200


async def test_bug_behind_the_view_is_500_without_details(view: View, caplog: pytest.LogCaptureFixture) -> None:
    view.reloads = [KeyError("secret"), ReloadEvent(True, "abc", "", 0.0)]

    async with admin(view) as port:
        response = await fetch(port, "POST", "/reload")
        again = await fetch(port, "POST", "/reload")

    assert_problem(response, 500)
    assert b"secret" not in response.body
    assert "secret" in caplog.text
    assert again.status == 200


# --- whom it refuses ------------------------------------------------------------------------------------------------


async def test_everything_but_the_probes_needs_the_token(view: View) -> None:
    async with admin(view, token=Secret("s3cret")) as port:
        statuses = {path: (await fetch(port, "GET", path)).status for path in ADMIN_PATHS}
        reload = await fetch(port, "POST", "/reload")

    assert statuses == {path: 200 if path in PROBES else 401 for path in ADMIN_PATHS}
    assert_problem(reload, 401)
    assert reload.header("WWW-Authenticate") == 'Bearer realm="tidegate"'


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_right_token_is_let_in(view: View, scheme: str) -> None:
    view.reloads = [ReloadEvent(True, "abc", "", 0.0)]

    async with admin(view, token=Secret("sécret")) as port:
        response = await fetch(port, "POST", "/reload", {"Authorization": f"{scheme} sécret"})

    assert response.status == 200


@pytest.mark.parametrize(
    "authorization",
    [
        b"Bearer wrong",
        b"Bearer",
        b"Bearer ",
        b"Basic s3cret",
        b"s3cret",
        b"Bearer s3cre",
        b"Bearer s3cret2",
        b"Bearer caf\xc3\xa9",
        b"Bearer \xff\xfe",
    ],
)
async def test_wrong_token_is_401_whatever_its_bytes(view: View, authorization: bytes) -> None:
    async with admin(view, token=Secret("s3cret")) as port:
        response = await fetch(port, "GET", "/config", [(b"Authorization", authorization)])

    assert_problem(response, 401)


@pytest.mark.parametrize("path", ["/healthz/../config", "/%2e/config", "//config", "/config/", "/config;/healthz"])
async def test_no_spelling_gets_past_the_token(view: View, path: str) -> None:
    async with admin(view, token=Secret("s3cret")) as port:
        response = await fetch(port, "GET", path)

    assert_problem(response, 401)


@pytest.mark.parametrize(
    ("network", "status"), [("10.0.0.0/8", 403), ("127.0.0.0/8", 200), ("::1/128", 403), ("127.0.0.1/32", 200)]
)
async def test_allowlist_looks_at_the_peer(view: View, network: str, status: int) -> None:
    async with admin(view, allow=(ip_network(network),)) as port:
        response = await fetch(port, "GET", "/healthz", {"X-Forwarded-For": "10.0.0.1"})

    assert response.status == status


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:5", "10.1.2.3", "app.localhost"])
async def test_local_names_and_addresses_are_accepted_as_host(view: View, host: str) -> None:
    async with admin(view) as port:
        response = await fetch(port, "GET", "/config", {"Host": host})

    assert response.status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "notlocalhost"]
)
async def test_foreign_names_are_refused_as_host(view: View, host: str) -> None:
    async with admin(view) as port, admin(view, listen=EVERYWHERE, allow=(ip_network("127.0.0.1"),)) as public:
        responses = [await fetch(each, "GET", "/config", {"Host": host}) for each in (port, public)]

    for response in responses:
        assert_problem(response, 403)


async def test_public_listener_with_a_token_takes_any_name(view: View) -> None:
    headers = {"Host": "tidegate.example:9901", "Authorization": "Bearer s3cret"}

    async with admin(view, listen=EVERYWHERE, token=Secret("s3cret")) as port:
        response = await fetch(port, "GET", "/config", headers)

    assert response.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_other_origins_change_nothing(view: View, headers: dict[str, str]) -> None:
    async with admin(view) as port:
        refused = await fetch(port, "POST", "/reload", headers)
        read = await fetch(port, "GET", "/version", headers)

    assert_problem(refused, 403)
    assert read.status == 200
    assert not view.reloading.is_set()


async def test_own_origin_may_reload(view: View) -> None:
    view.reloads = [ReloadEvent(True, "abc", "", 0.0)]
    headers = {"Host": "localhost:9901", "Origin": "http://localhost:9901", "Sec-Fetch-Site": "same-origin"}

    async with admin(view) as port:
        response = await fetch(port, "POST", "/reload", headers)

    assert response.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/reload", 405), ("POST", "/metrics", 405), ("PATCH", "/config", 405)],
)
async def test_what_is_not_there_is_a_problem(view: View, method: str, path: str, status: int) -> None:
    async with admin(view) as port:
        response = await fetch(port, method, path)

    assert_problem(response, status)
    assert (response.header("Allow") is not None) == (status == 405)


# --- limits ---------------------------------------------------------------------------------------------------------


async def test_large_body_is_413(view: View) -> None:
    async with admin(view) as port:
        response = await fetch(port, "POST", "/reload", body=b"x" * (listener.MAX_BODY + 1))

    assert_problem(response, 413)
    assert not view.reloading.is_set()


async def test_body_that_never_comes_is_408(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_READ_TIMEOUT", 0.05)

    async with admin(view) as port, RawClient(port) as client:
        await client.send(b"POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
        response = await client.read_response("POST")

    assert_problem(response, 408)


@pytest.mark.both_loops
async def test_reader_who_stops_is_dropped(
    view: View, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "_WRITE_TIMEOUT", 0.05)
    view.huge = b"x" * (64 << 20)

    async with health(view) as port, RawClient(port, rcvbuf=4096) as client:
        client.stop_reading()
        await client.send_request("GET", "/metrics")
        await view.scraped.wait()
        while_sending = open_fds()
        await eventually(lambda: open_fds() < while_sending)
        client.resume_reading()
        response = await client.read_response(check=False)

    assert not response.complete
    assert caplog.records == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET /<script>secret</script> HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00secret\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nse cret: x\r\n\r\n",
        b"GET /" + b"secret" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_malformed_request_is_not_echoed(view: View, garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with admin(view) as port, RawClient(port) as client:
        await client.send(garbage)
        response = await client.read_response()
        ended = await client.ended_within()

    assert_problem(response, 400)
    assert b"secret" not in response.raw
    assert b"aiohttp" not in response.raw
    assert ended == "fin"
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


async def test_new_connections_get_in_when_all_are_taken(view: View) -> None:
    async with health(view) as port, contextlib.AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(RawClient(port)) for _ in range(listener._MAX_CONNECTIONS)]

        response = await fetch(port, "GET", "/healthz")

        assert response.status == 200
        assert await idle[0].ended_within() != "open"
        assert idle[-1].wire.ended == "open"


# --- the health listener --------------------------------------------------------------------------------------------


async def test_health_listener_serves_three_paths_and_nothing_else(view: View) -> None:
    async with health(view) as port:
        statuses = {path: (await fetch(port, "GET", path)).status for path in ADMIN_PATHS}
        reload = await fetch(port, "POST", "/reload")

    assert statuses == {path: 200 if path in ("/metrics", *PROBES) else 404 for path in ADMIN_PATHS}
    assert_problem(reload, 404)
    assert not view.reloading.is_set()


async def test_health_listener_takes_any_host(view: View) -> None:
    async with health(view) as port:
        response = await fetch(port, "GET", "/readyz", {"Host": "pod.example"})

    assert response.status == 200
