"""The client of Redis on real servers: addresses, scripts, time limits, connections, loss and return."""

import asyncio
import contextlib
import logging
import ssl
import subprocess
import sys
import time
from binascii import crc_hqx
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.config.policies import RedisConfig
from proxy.config.policy_types import StoreUrl
from proxy.storage.redis import Redis, Script, StoreError
from proxy.storage.subscription import Gap, Message
from proxy.telemetry.instruments import RedisMetrics
from tests.support.certificates import Certificates
from tests.support.exchange import make_exchange
from tests.support.redis_client import ECHO, GET, SET, Client, running_client
from tests.support.tcp_faults import FaultProxy
from tests.support.valkey import Valkey, ValkeyCluster, ValkeySentinel, free_port
from tests.support.waiting import WITHIN, eventually

LONG = 5.0
"""A time limit, in seconds, that no test reaches."""
SLEEP = Script("sleep", "local n = 0 for i = 1, ARGV[1] do n = n + i end return 1")


@pytest.fixture
async def client(shared_valkey: Valkey) -> AsyncIterator[Client]:
    async with running_client(shared_valkey.url, timeout=LONG) as client:
        yield client


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


async def back(client: Client) -> None:
    """Wait until Redis is used again."""
    await eventually(lambda: client.redis.is_available)


# --- where it is ----------------------------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_scripts_run_over_tcp(shared_valkey: Valkey) -> None:
    async with running_client(shared_valkey.url, timeout=LONG) as client:
        assert client.redis.is_available
        assert await client.redis.run(ECHO, [b"key"], [b"value"]) == [b"key", b"value"]


@pytest.mark.both_loops
async def test_a_pause_of_our_own_is_not_taken_for_one_of_redis(shared_valkey: Valkey) -> None:
    async with running_client(shared_valkey.url, timeout=0.2) as client:
        await client.redis.run(GET, [b"warm"], [])
        asking = asyncio.create_task(client.redis.run(GET, [b"nothing"], []))
        for _ in range(20):
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(time.sleep, 0.5)

        assert await asking is None
        assert client.outcomes("get") == {"ok": 2}


@pytest.mark.both_loops
async def test_scripts_run_over_a_unix_socket(shared_valkey: Valkey) -> None:
    async with running_client(shared_valkey.unix_url, timeout=LONG) as client:
        assert await client.redis.run(ECHO, [b"key"], [7]) == [b"key", b"7"]


async def test_the_database_and_the_password_of_the_url_are_used(valkey: Valkey) -> None:
    valkey.require_password("se:cret/1")
    async with running_client(f"redis://:se%3Acret%2F1@127.0.0.1:{valkey.port}/3", timeout=LONG) as client:
        await client.redis.run(SET, [b"kept-in-3"], ["1"])

    assert "db3:keys=1" in valkey.info("keyspace")


async def test_a_user_name_is_used(valkey: Valkey) -> None:
    valkey.command("ACL", "SETUSER", "tidegate", "on", ">secret", "~*", "+@all")
    async with running_client(f"redis://tidegate:secret@127.0.0.1:{valkey.port}", timeout=LONG) as client:
        await client.redis.run(ECHO, [b"k"], [1])
        assert b"user=tidegate" in valkey.command_raw("CLIENT", "LIST")


@contextlib.asynccontextmanager
async def tls_in_front_of(valkey: Valkey, context: ssl.SSLContext) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_unix_connection(valkey.path)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pump(reader, back_writer), pump(back_reader, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_scripts_run_over_tls(
    shared_valkey: Valkey, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
    async with (
        tls_in_front_of(shared_valkey, certificates.server_context()) as port,
        running_client(f"rediss://localhost:{port}", timeout=LONG) as client,
    ):
        assert await client.redis.run(ECHO, [b"key"], [b"value"]) == [b"key", b"value"]


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    shared_valkey: Valkey, certificates: Certificates
) -> None:
    async with (
        tls_in_front_of(shared_valkey, certificates.server_context()) as port,
        running_client(f"rediss://localhost:{port}", timeout=LONG) as client,
    ):
        assert not client.redis.is_available
        assert client.outcomes("ping") == {"refused": 1}


async def test_scripts_run_on_a_cluster(cluster: ValkeyCluster) -> None:
    async with running_client(cluster.cluster_url, timeout=LONG) as client:
        assert client.redis.is_available
        for number in range(20):
            key = f"key-{number}".encode()
            assert await client.redis.run(ECHO, [key], [number]) == [key, str(number).encode()]


def slot_of(key: bytes) -> int:
    return crc_hqx(key, 0) % 16384


async def test_a_slot_that_has_moved_is_followed(cluster: ValkeyCluster) -> None:
    async with running_client(cluster.cluster_url, timeout=LONG) as client:
        key = next(b"moved-%d" % n for n in range(100) if slot_of(b"moved-%d" % n) < 8192)
        await client.redis.run(SET, [key], ["before"])
        cluster.nodes[0].command("DEL", key)
        cluster.begin_move(slot_of(key), 0, 1)
        await client.redis.run(SET, [key], ["on its way"])
        cluster.end_move(slot_of(key), 1)
        await client.redis.run(SET, [key], ["there"])

        assert await client.redis.run(GET, [key], []) == b"there"
        assert client.redis.is_available
        cluster.nodes[1].command("DEL", key)
        cluster.end_move(slot_of(key), 0)


async def test_messages_of_a_cluster_come_from_any_of_its_masters(cluster: ValkeyCluster) -> None:
    async with running_client(cluster.cluster_url, timeout=LONG) as client:
        news = client.redis.subscribe(b"news")
        news.start()
        assert await news.next() == Gap("subscribed")
        for node in cluster.nodes:
            node.command("PUBLISH", "news", node.port)
            assert await news.next() == Message(b"news", str(node.port).encode())
        await news.close()


async def test_a_cluster_that_cannot_be_reached_is_like_any_redis_that_is_gone() -> None:
    port = free_port(also=10_000)
    async with running_client(f"redis+cluster://127.0.0.1:{port}", timeout=LONG) as client:
        assert not client.redis.is_available
        with pytest.raises(StoreError, match="unavailable"):
            await client.redis.run(ECHO, [b"k"], [1])
        news = client.redis.subscribe(b"news")
        news.start()
        await asyncio.sleep(0.05)
        assert not news.is_live
        await news.close()


async def test_sentinels_name_the_master_and_after_a_failover_the_next(tmp_path: Path) -> None:
    with ValkeySentinel(tmp_path) as sentinel:
        async with running_client(sentinel.url, timeout=LONG) as client:
            await client.redis.run(SET, [b"key"], ["before"])
            assert sentinel.master.command("GET", "key") == b"before"

            await asyncio.to_thread(sentinel.fail_over)
            sentinel.replica.kill()
            await until_it_writes(client, b"after")

            assert sentinel.master.command("GET", "key") == b"after"


async def test_a_sentinel_that_is_gone_does_not_hide_the_others(tmp_path: Path) -> None:
    with ValkeySentinel(tmp_path) as sentinel:
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.sentinel.port}/{sentinel.name}"
        async with running_client(url, timeout=LONG) as client:
            assert await client.redis.run(ECHO, [b"k"], [1]) == [b"k", b"1"]


async def until_it_writes(client: Client, value: bytes) -> None:
    """Until a write succeeds."""
    async with asyncio.timeout(LONG):
        while True:
            with contextlib.suppress(StoreError):
                await client.redis.run(SET, [b"key"], [value])
                return
            await asyncio.sleep(0.01)


# --- keys and scripts -----------------------------------------------------------------------------------------------


async def test_a_script_that_the_server_does_not_know_is_sent_along(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG) as client:
        for _ in range(3):
            assert await client.redis.run(ECHO, [b"k"], [1]) == [b"k", b"1"]
        valkey.forget_scripts()
        assert await client.redis.run(ECHO, [b"k"], [1]) == [b"k", b"1"]

        assert client.outcomes("echo") == {"ok": 4}
        assert valkey.command_calls("eval") == 3  # two of them and the heartbeat's


async def test_many_scripts_at_once_share_a_few_connections(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG, max_connections=3) as client:
        answers = await asyncio.gather(*(client.redis.run(ECHO, [b"k%d" % n], [n]) for n in range(300)))

        assert answers == [[b"k%d" % n, b"%d" % n] for n in range(300)]
        assert valkey.clients() == 3


async def test_the_error_of_a_script_is_nobodys_outage(client: Client) -> None:
    for _ in range(10):
        with pytest.raises(StoreError, match="error: "):
            await client.redis.run(Script("wrong", "return nothing.at.all"), [b"k"], [])

    assert client.redis.is_available
    assert client.outcomes("wrong") == {"error": 10}


def redis_alone(prefix: str = "tidegate") -> Redis:
    config = RedisConfig(url=StoreUrl.parse("redis://127.0.0.1"), prefix=prefix)
    return Redis(config, clock=time.monotonic, random=lambda: 0.5, metrics=RedisMetrics())


def test_keys_begin_with_the_prefix() -> None:
    assert redis_alone(prefix="shop").key("limit", b"search") == b"shop:limit:search"


@pytest.mark.parametrize("hostile", ["a:b", "", "x" * 65, "{slot}", "a\r\nFLUSHALL", "\udce9", b"\xff\x00", "*"])
def test_what_is_no_plain_word_is_hashed(hostile: str | bytes) -> None:
    redis = redis_alone()

    key = redis.key("limit", hostile)

    assert key.startswith(b"tidegate:limit:~")
    assert len(key) == len(b"tidegate:limit:~") + 32
    assert key == redis.key("limit", hostile)


def test_no_two_lists_of_parts_make_the_same_key() -> None:
    redis = redis_alone()
    parts = [("a", "b"), ("a:b",), ("a", "b", ""), ("", "a", "b"), ("~" + "0" * 32,), ("ab",)]

    assert len({redis.key(*each) for each in parts}) == len(parts)


# --- time -----------------------------------------------------------------------------------------------------------


async def test_an_exchange_accumulates_its_time_and_gets_no_more_than_there_is(shared_valkey: Valkey) -> None:
    async with running_client(shared_valkey.url, timeout=LONG) as client:
        exchange = make_exchange()
        for _ in range(3):
            before = exchange.store_seconds
            await client.redis.run(ECHO, [b"k"], [1], exchange)
            assert exchange.store_seconds > before

        exchange.store_seconds = LONG
        with pytest.raises(StoreError, match="no_time"):
            await client.redis.run(ECHO, [b"k"], [1], exchange)
        assert client.outcomes("echo") == {"ok": 3, "no_time": 1}
        assert client.redis.is_available


async def test_nothing_is_asked_after_the_deadline(client: Client) -> None:
    exchange = make_exchange()
    exchange.deadline = time.monotonic()

    with pytest.raises(StoreError, match="no_time"):
        await client.redis.run(ECHO, [b"k"], [1], exchange)


async def test_deadlines_that_are_too_short_do_not_count_against_redis(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG) as client:
        valkey.stop_process()
        for _ in range(10):
            exchange = make_exchange()
            exchange.deadline = time.monotonic() + 0.005
            with pytest.raises(StoreError, match="timeout"):
                await client.redis.run(ECHO, [b"k"], [1], exchange)
        valkey.continue_process()

        assert client.redis.is_available
        assert await client.redis.run(ECHO, [b"k"], [1]) == [b"k", b"1"]


async def test_a_server_that_is_silent_costs_the_timeout_once(valkey: Valkey) -> None:
    async with running_client(valkey.url) as client:
        valkey.stop_process()
        exchange = make_exchange()
        outcomes = []
        for _ in range(3):
            with pytest.raises(StoreError) as caught:
                await client.redis.run(ECHO, [b"k"], [1], exchange)
            outcomes.append(caught.value.outcome)

        assert outcomes == ["timeout", "no_time", "no_time"]
        assert exchange.store_seconds < 0.5
        valkey.continue_process()


# --- connections ----------------------------------------------------------------------------------------------------


async def test_who_waits_for_a_connection_leaves_when_it_is_cancelled(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG, max_connections=1) as client:
        valkey.stop_process()
        first = asyncio.create_task(client.redis.run(ECHO, [b"k"], [1]))
        waiting = [asyncio.create_task(client.redis.run(ECHO, [b"k"], [1])) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting[:4]:
            task.cancel()
        valkey.continue_process()

        assert await first == await waiting[4] == [b"k", b"1"]
        assert all(
            isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*waiting[:4], return_exceptions=True)
        )
        assert client.outcomes("echo") == {"ok": 2, "cancelled": 4}


async def test_a_connection_given_to_somebody_who_leaves_goes_to_the_next(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG, max_connections=1) as client:
        tasks = [asyncio.create_task(client.redis.run(ECHO, [b"k"], [1])) for _ in range(3)]
        tasks[0].add_done_callback(lambda _task: tasks[1].cancel())

        answers = await asyncio.gather(*tasks, return_exceptions=True)

        assert answers[2] == [b"k", b"1"]
        assert await client.redis.run(ECHO, [b"k"], [1]) == [b"k", b"1"]
        assert valkey.clients() <= 2


async def test_connections_that_the_server_has_closed_are_not_used(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG) as client:
        for _ in range(5):
            await asyncio.gather(*(client.redis.run(ECHO, [b"k"], [1]) for _ in range(8)))
            valkey.drop_clients()
            await asyncio.sleep(0.02)  # for the farewells to arrive

        assert await client.redis.run(ECHO, [b"k"], [1]) == [b"k", b"1"]
        assert client.outcomes("echo") == {"ok": 41}


async def test_what_nobody_asked_for_ends_a_connection(shared_valkey: Valkey) -> None:
    async with (
        FaultProxy(shared_valkey.port) as faults,
        running_client(f"redis://127.0.0.1:{faults.port}", timeout=LONG) as client,
    ):
        await client.redis.run(ECHO, [b"k"], [1])
        for wire in faults._clients:
            wire.transport.write(b"+a stranger's answer\r\n")
        await asyncio.sleep(0.02)

        assert await client.redis.run(ECHO, [b"mine"], [2]) == [b"mine", b"2"]
        assert faults.accepted == 2


async def test_a_closed_client_asks_nothing_and_leaves_no_connection(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG) as client:
        await asyncio.gather(*(client.redis.run(ECHO, [b"k"], [1]) for _ in range(8)))

    assert not client.redis.is_available
    with pytest.raises(StoreError, match="unavailable"):
        await client.redis.run(ECHO, [b"k"], [1])
    await eventually(lambda: valkey.clients() == 0)


async def test_a_call_that_is_under_way_at_the_close_ends_as_it_would(valkey: Valkey) -> None:
    async with running_client(valkey.url, timeout=LONG, max_connections=1) as client:
        await client.redis.run(SLEEP, [b"k"], [1])
        under_way = asyncio.create_task(client.redis.run(SLEEP, [b"k"], [3_000_000]))
        waiting = asyncio.create_task(client.redis.run(ECHO, [b"k"], [1]))
        await asyncio.sleep(0)
        # signing off would wait for the one connection
        client.redis.instances.leave = lambda: asyncio.sleep(0)  # type: ignore[method-assign]
        await client.redis.close()

        assert await under_way == 1
        with pytest.raises(StoreError, match="unavailable"):
            await waiting
    await eventually(lambda: valkey.clients() == 0)


# --- loss and return ------------------------------------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "tidegate.redis"]


async def test_the_start_succeeds_without_redis(caplog: pytest.LogCaptureFixture) -> None:
    async with running_client(f"redis://:secret@127.0.0.1:{free_port()}") as client:
        assert not client.redis.is_available
        assert not client.metrics.up
        assert client.redis.instances.count == 1
        with pytest.raises(StoreError, match="unavailable"):
            await client.redis.run(ECHO, [b"k"], [1])

    (record,) = (record for record in caplog.records if record.name == "tidegate.redis")
    assert record.levelno == logging.WARNING
    assert record.__dict__["reason"] == "refused"
    assert "secret" not in str(record.__dict__)


async def test_a_loss_and_a_return_are_one_line_each(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running_client(valkey.url) as client:
        assert lines(caplog) == []
        valkey.kill()
        for _ in range(50):
            with pytest.raises(StoreError):
                await client.redis.run(ECHO, [b"k"], [1])
        assert not client.metrics.up
        valkey.restart()
        await back(client)

        assert client.metrics.up
        assert await client.redis.run(ECHO, [b"k"], [1]) == [b"k", b"1"]
    assert lines(caplog) == ["Redis does not answer: this instance goes on by itself", "Redis answers again"]


async def test_no_writes_are_a_loss_for_what_writes_only(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running_client(valkey.url) as client:
        await client.redis.run(SET, [b"key"], ["there"])
        valkey.fill()
        outcomes = []
        for _ in range(20):
            with pytest.raises(StoreError) as caught:
                await client.redis.run(SET, [b"key"], ["more"])
            outcomes.append(caught.value.outcome)
        assert outcomes == ["oom"] * 3 + ["unavailable"] * 17
        assert not client.redis.is_available
        assert await client.redis.run(GET, [b"key"], []) == b"there"

        valkey.empty()
        await back(client)
        await client.redis.run(SET, [b"key"], ["more"])

        assert client.redis.is_available
    assert lines(caplog) == ["Redis takes no writes: this instance goes on by itself", "Redis takes writes again"]


async def test_it_is_started_once(client: Client) -> None:
    asked = client.outcomes("ping")
    tasks = asyncio.all_tasks()

    await client.redis.start()

    assert client.outcomes("ping") == asked
    assert asyncio.all_tasks() == tasks


async def test_a_bug_does_not_end_the_watch(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    async with running_client(valkey.url) as client:
        look = client.redis._look
        calls = 0

        async def fail_once() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise RuntimeError("a bug")
            await look()

        client.redis._look = fail_once  # type: ignore[method-assign]
        await eventually(lambda: calls >= 2)

    assert lines(caplog) == ["Bug: the watch over Redis goes on"]


def test_redis_py_is_imported_only_for_a_client() -> None:
    code = "import sys, proxy.storage.redis, proxy.app; sys.exit('redis' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_master_of_a_cluster_that_is_lost_leaves_the_others_in_use(tmp_path: Path) -> None:
    with ValkeyCluster(tmp_path) as cluster:
        cluster.nodes[0].config_set("cluster-require-full-coverage", "no")
        cluster.nodes[0].config_set("cluster-node-timeout", 60_000)
        async with running_client(cluster.cluster_url) as client:
            keys = [b"key-%d" % number for number in range(200)]
            cluster.nodes[1].kill()
            outcomes = [await outcome_of(client, key) for key in keys]
            lower = [outcome for key, outcome in zip(keys, outcomes, strict=True) if slot_of(key) < 8192]
            upper = [outcome for key, outcome in zip(keys, outcomes, strict=True) if slot_of(key) >= 8192]

            assert set(lower) == {"ok"}
            assert [outcome for outcome in upper if outcome not in ("lost", "refused")] == ["unavailable"] * (
                len(upper) - 3
            )
            assert client.redis.is_available
            await eventually(lambda: "refused" in client.outcomes("ping"))
            cluster.nodes[1].restart()
            await eventually(lambda: client.metrics.commands.get(("ping", "ok"), 0) > 0)
            async with asyncio.timeout(WITHIN):
                while {await outcome_of(client, key) for key in keys} != {"ok"}:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.05)


async def outcome_of(client: Client, key: bytes) -> str:
    try:
        await client.redis.run(ECHO, [key], [1])
    except StoreError as error:
        return error.outcome
    return "ok"
