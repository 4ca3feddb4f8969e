"""Opening connections: name look-up, TCP, Unix sockets, TLS, and what goes wrong with each (D01, D17)."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.config.model import TlsConfig
from proxy.errors import (
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    DnsError,
    DnsTimeout,
    ProxyError,
    TlsCertificateError,
    TlsError,
    Unroutable,
    UpstreamTimeout,
)
from proxy.upstream.dns import Resolver
from tests.support.certificates import Certificates
from tests.support.steps import Gate, reply
from tests.support.tcp_faults import FaultProxy
from tests.support.upstream import ScriptedUpstream, blackhole_port, refusing_port
from tests.support.upstream_client import client_for
from tests.support.wire import Wire

pytestmark = pytest.mark.both_loops


class Names:
    """A resolver of our own: a table, and a way to hang."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.lookups = 0
        self.answers = threading.Event()
        self.answers.set()

    def __call__(self, host: str, port: int) -> list[str]:
        self.lookups += 1
        self.answers.wait(10)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.addresses

    def resolver(self, ttl: float = 10.0) -> Resolver:
        return Resolver(asyncio.get_running_loop(), self, ttl)


@contextlib.asynccontextmanager
async def talking_server(greeting: bytes, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """A server that speaks first and then says nothing more; gives its port."""
    wires: list[Wire] = []

    def greet(wire: Wire) -> None:
        wires.append(wire)
        wire.transport.write(greeting)

    server = await asyncio.get_running_loop().create_server(lambda: Wire(on_open=greet), address, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for wire in wires:
            wire.reset()
            await wire.closed.wait()
        await server.wait_closed()


# --- D01 ---


async def test_d01_refused() -> None:
    with refusing_port() as port:
        async with client_for(f"http://127.0.0.1:{port}") as client:
            for method in ("GET", "POST"):
                with pytest.raises(ConnectionRefused) as caught:
                    await client.fetch(method=method)
                assert (caught.value.status, caught.value.request_written) == (502, False)

    assert client.observer.attempts == ["connection_refused"] * 2
    assert client.observer.connections["failed"] == 2


async def test_d01_every_exchange_that_waits_is_told() -> None:
    with refusing_port() as port:
        async with client_for(f"http://127.0.0.1:{port}", max_connections=2) as client:
            results = await asyncio.gather(*(client.fetch() for _ in range(10)), return_exceptions=True)

    assert [type(result) for result in results] == [ConnectionRefused] * 10


async def test_d01_no_answer_to_the_connect() -> None:
    with blackhole_port() as port:
        async with client_for(f"http://127.0.0.1:{port}", connect_timeout=0.1) as client:
            with pytest.raises(ConnectionTimeout) as caught:
                await client.fetch()

    assert (caught.value.status, caught.value.request_written) == (504, False)


async def test_d01_unknown_name() -> None:
    async with client_for("http://api.test:80", resolver=Names().resolver()) as client:
        with pytest.raises(DnsError) as caught:
            await client.fetch()

    assert (caught.value.status, caught.value.request_written) == (502, False)


async def test_d01_unroutable_address() -> None:
    # Nothing can connect to the broadcast address: the kernel says so without sending anything.
    async with client_for("http://api.test:80", resolver=Names("255.255.255.255").resolver()) as client:
        with pytest.raises(Unroutable) as caught:
            await client.fetch()

    assert (caught.value.status, caught.value.request_written) == (502, False)


async def test_d01_resolver_that_does_not_answer_keeps_only_its_own_name_waiting() -> None:
    slow, quick = Names("127.0.0.1"), Names("127.0.0.1")
    slow.answers.clear()
    async with ScriptedUpstream() as upstream:
        async with client_for("http://slow.test", resolver=slow.resolver(), connect_timeout=0.1) as client:
            stuck = asyncio.gather(*(client.fetch() for _ in range(20)), return_exceptions=True)
            async with client_for(f"http://quick.test:{upstream.port}", resolver=quick.resolver()) as other:
                assert (await other.fetch())[0] == 200
            errors = await stuck
        slow.answers.set()

    assert {type(error) for error in errors} == {DnsTimeout}
    assert slow.lookups == 1


async def test_name_is_looked_up_again_after_no_thread_could_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Names("127.0.0.1").resolver()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError):
            await resolver.resolve("api.test", 80)
    async with asyncio.timeout(10):
        assert await resolver.resolve("api.test", 80) == ["127.0.0.1"]


async def test_upstream_that_accepts_and_closes_never_saw_the_request() -> None:
    async with ScriptedUpstream() as upstream, FaultProxy(upstream.port) as faults:
        faults.target = 1  # nothing listens there: the proxy accepts and resets
        async with client_for(f"http://127.0.0.1:{faults.port}") as client:
            with pytest.raises(ConnectionTerminated):
                await client.fetch(method="POST")

    assert upstream.requests == []


async def test_server_that_speaks_first_is_not_used() -> None:
    async with talking_server(b"220 smtp ready\r\n") as port, client_for(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(ProxyError):
            await client.fetch()
        assert client.idle == 0


# --- several addresses, changing answers ---


async def test_names_of_this_machine_need_no_help() -> None:
    async with ScriptedUpstream() as upstream, client_for(f"http://localhost:{upstream.port}") as client:
        assert (await client.fetch(headers=()))[0] == 200

    assert upstream.requests[0].header("Host") == f"localhost:{upstream.port}"


async def test_next_address_is_tried_when_one_refuses() -> None:
    names = Names("127.0.0.2", "127.0.0.1")
    async with (
        ScriptedUpstream() as upstream,
        client_for(f"http://api.test:{upstream.port}", resolver=names.resolver()) as client,
    ):
        assert (await client.fetch())[0] == 200


async def test_answers_are_remembered_for_their_time() -> None:
    names = Names("127.0.0.1")
    async with ScriptedUpstream() as upstream:
        upstream.on("*", reply(200, {"Connection": "close"}))
        async with client_for(f"http://api.test:{upstream.port}", resolver=names.resolver()) as client:
            for _ in range(5):
                await client.fetch()

    assert names.lookups == 1


async def test_d17_changed_answer_moves_all_traffic_and_lets_the_rest_finish() -> None:
    names = Names("127.0.0.1")
    gate = Gate()
    async with ScriptedUpstream() as old, talking_server(b"", "127.0.0.2", old.port) as port:
        url = f"http://api.test:{port}"
        async with client_for(url, resolver=names.resolver(ttl=0.02), max_age=0.05) as client:
            old.on("/slow", gate, reply(200))
            slow = asyncio.ensure_future(client.fetch("/slow"))
            await gate.reached.wait()
            await client.fetch()
            names.addresses = ["127.0.0.2"]
            await asyncio.sleep(0.1)
            with pytest.raises(UpstreamTimeout):  # the new address accepts and says nothing
                await client.fetch("/moved", total=0.1)
            gate.open()

            assert (await slow)[0] == 200
            assert old.hits("/moved") == 0


# --- Unix sockets ---


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with ScriptedUpstream(unix=path) as upstream, client_for(upstream.url) as client:
        assert (await client.fetch(headers=()))[0] == 200
        assert (await client.fetch())[0] == 200

    assert upstream.requests[0].header("Host") == "localhost"
    assert len(upstream.wires) == 1


async def test_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    async with client_for(f"unix:{tmp_path}/none.sock") as client:
        with pytest.raises(ConnectionRefused):
            await client.fetch()


# --- TLS ---


async def test_tls_with_our_authority(certificates: Certificates) -> None:
    tls = TlsConfig(ca=str(certificates.ca_file))
    async with (
        ScriptedUpstream(tls=certificates.server_context()) as upstream,
        client_for(upstream.url, tls=tls) as client,
    ):
        assert (await client.fetch(method="POST", body=b"x" * 100_000))[0] == 200
        assert (await client.fetch())[0] == 200
        assert client.idle == 1

    assert [request.connection for request in upstream.requests] == [1, 1]


async def test_tls_body_larger_than_all_buffers(certificates: Certificates) -> None:
    tls = TlsConfig(ca=str(certificates.ca_file))
    async with ScriptedUpstream(tls=certificates.server_context()) as upstream:
        upstream.on("/", reply(200, body=b"x" * 3_000_000))
        async with client_for(upstream.url, tls=tls) as client:
            assert await client.fetch() == (200, b"x" * 3_000_000)


async def test_unknown_authority_is_refused(certificates: Certificates) -> None:
    async with ScriptedUpstream(tls=certificates.server_context()) as upstream, client_for(upstream.url) as client:
        with pytest.raises(TlsCertificateError) as caught:
            await client.fetch()

    assert not caught.value.retryable
    assert not caught.value.request_written


async def test_certificate_for_another_name_is_refused(certificates: Certificates) -> None:
    tls = TlsConfig(ca=str(certificates.ca_file))
    async with (
        ScriptedUpstream(tls=certificates.server_context("other.test")) as upstream,
        client_for(upstream.url, tls=tls) as client,
    ):
        with pytest.raises(TlsCertificateError):
            await client.fetch()


async def test_server_name_decides_what_is_verified(certificates: Certificates) -> None:
    tls = TlsConfig(ca=str(certificates.ca_file), server_name="other.test")
    async with (
        ScriptedUpstream(tls=certificates.server_context("other.test")) as upstream,
        client_for(upstream.url, tls=tls) as client,
    ):
        assert (await client.fetch())[0] == 200


async def test_client_certificate(certificates: Certificates) -> None:
    ca = str(certificates.ca_file)
    tls = TlsConfig(ca=ca, cert=str(certificates.client_cert), key=str(certificates.client_key))
    async with ScriptedUpstream(tls=certificates.server_context(client_cert_required=True)) as upstream:
        async with client_for(upstream.url, tls=tls) as client:
            assert (await client.fetch())[0] == 200
        async with client_for(upstream.url, tls=TlsConfig(ca=ca)) as client:
            with pytest.raises(ProxyError) as caught:  # TLS 1.3 lets the client go on before it is told
                await client.fetch()

    assert isinstance(caught.value, TlsError | ConnectionTerminated)


async def test_port_that_does_not_speak_tls_is_a_tls_error(certificates: Certificates) -> None:
    tls = TlsConfig(ca=str(certificates.ca_file))
    async with (
        talking_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port,
        client_for(f"https://127.0.0.1:{port}", tls=tls) as client,
    ):
        with pytest.raises(TlsError):
            await client.fetch()


async def test_handshake_counts_towards_the_connect_timeout(certificates: Certificates) -> None:
    tls = TlsConfig(ca=str(certificates.ca_file))
    async with ScriptedUpstream(tls=certificates.server_context()) as upstream, FaultProxy(upstream.port) as faults:
        faults.upstream.stall()
        async with client_for(f"https://127.0.0.1:{faults.port}", tls=tls, connect_timeout=0.1) as client:
            with pytest.raises(ConnectionTimeout):
                await client.fetch()
