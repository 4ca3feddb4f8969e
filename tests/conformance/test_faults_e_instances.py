"""Two sidecars that share a Redis: nothing outdated, nothing damaged reaches a client (faults E10 and E11)."""

import asyncio
import contextlib
import json
import pickle
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.aftermath import until_metric
from tests.support.app import RunningApp, running_app
from tests.support.client import RawClient, fetch, get
from tests.support.settings import policies
from tests.support.steps import Gate, Turn, reply
from tests.support.upstream import ScriptedUpstream
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

FRESH = {"Cache-Control": "max-age=3600", "ETag": '"a"'}
PATH = "/r"


class Pair:
    """Two instances in front of one upstream, whose page is what `content` says."""

    def __init__(self, upstream: ScriptedUpstream, one: RunningApp, two: RunningApp) -> None:
        self.upstream = upstream
        self.one = one
        self.two = two
        self.content = b"old"

    async def page(self, turn: Turn) -> None:
        content = self.content
        await reply(200, {"Cache-Control": "max-age=3600"}, content)(turn)

    @property
    def fills(self) -> int:
        return sum(request.method == "GET" for request in self.upstream.requests)


def file_of(upstream: ScriptedUpstream, valkey: Valkey) -> str:
    text = json.loads(policies(upstream.url, route={"cache": {"early_refresh": False}, "timeout": "5s"}))
    return json.dumps({**text, "redis": {"url": valkey.url, "timeout": "2s"}})


@contextlib.asynccontextmanager
async def running_pair(valkey: Valkey) -> AsyncIterator[Pair]:
    async with ScriptedUpstream() as upstream:
        text = file_of(upstream, valkey)
        async with running_app(text) as one, running_app(text) as two:
            pair = Pair(upstream, one, two)
            upstream.on("*", pair.page)
            yield pair


def responses(valkey: Valkey) -> list[bytes]:
    """The names of the responses in Redis."""
    return sorted(key for key in valkey.command("KEYS", "*") if b"}:r1:" in key)


async def stored_in_redis(valkey: Valkey, count: int = 1) -> list[bytes]:
    await eventually(lambda: len(responses(valkey)) >= count)
    return responses(valkey)


async def test_response_that_one_instance_has_stored_answers_on_the_other(valkey: Valkey) -> None:
    async with running_pair(valkey) as pair:
        await get(pair.one.port, PATH)
        await stored_in_redis(valkey)

        answers = [await get(pair.two.port, PATH) for _ in range(2)]

        assert [each.body for each in answers] == [b"old"] * 2
        assert pair.fills == 1
        assert all(each.header("Age") is not None for each in answers)


async def test_misses_of_two_instances_are_one_request_to_the_upstream(valkey: Valkey) -> None:
    async with running_pair(valkey) as pair, contextlib.AsyncExitStack() as stack:
        gate = Gate()
        pair.upstream.forget()
        pair.upstream.on("*", gate, pair.page)
        ports = [pair.one.port] * 40 + [pair.two.port] * 40
        clients = [await stack.enter_async_context(RawClient(port)) for port in ports]
        for client in clients:
            await client.send_request("GET", PATH)
        await gate.reached.wait()
        for app in (pair.one, pair.two):
            await until_metric(app, 40, "proxy_requests_in_flight")
        gate.open()

        answers = [await client.read_response() for client in clients]

        assert {(each.status, each.body) for each in answers} == {(200, b"old")}
        assert pair.fills == 1


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda value: value[:-7],
    "half": lambda value: value[: len(value) // 2],
    "one bit": lambda value: value[:-20] + bytes([value[-20] ^ 1]) + value[-19:],
    "longer": lambda value: value + b"x",
    "empty": lambda value: b"",
    "rubbish": lambda value: b"\x00\xff" * 100,
    "text": lambda value: b'{"status": 200, "body": "evil"}',
    "pickle": lambda value: pickle.dumps({"status": 200, "body": b"evil"}),
    "another version": lambda value: b"\xfe" + value[1:],
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_e10_damaged_entry_is_a_miss_without_an_error(valkey: Valkey, kind: str) -> None:
    async with running_pair(valkey) as pair:
        await get(pair.one.port, PATH)
        (name,) = await stored_in_redis(valkey)
        valkey.command("SET", name, DAMAGE[kind](valkey.command("GET", name)))
        pair.content = b"new"

        answer = await get(pair.two.port, PATH)

        assert (answer.status, answer.body, pair.fills) == (200, b"new", 2)


async def test_e10_entry_under_the_name_of_another_is_a_miss(valkey: Valkey) -> None:
    async with running_pair(valkey) as pair:
        await get(pair.one.port, "/other")
        (other,) = await stored_in_redis(valkey)
        pair.content = b"mine"
        await get(pair.one.port, PATH)
        names = await stored_in_redis(valkey, 2)
        (mine,) = set(names) - {other}
        valkey.command("SET", mine, valkey.command("GET", other))

        answer = await get(pair.two.port, PATH)

        assert (answer.status, answer.body) == (200, b"mine")


@pytest.mark.parametrize("words", [("LPUSH", "x"), ("HSET", "a", "b"), ("SADD", "x"), ("ZADD", 1, "x")], ids=str)
async def test_e10_entry_of_another_type_is_a_miss(valkey: Valkey, words: tuple[str | int, ...]) -> None:
    async with running_pair(valkey) as pair:
        await get(pair.one.port, PATH)
        (name,) = await stored_in_redis(valkey)
        valkey.command("DEL", name)
        valkey.command(str(words[0]), name, *words[1:])

        answer = await get(pair.two.port, PATH)

        assert (answer.status, answer.body) == (200, b"old")


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
async def test_e11_change_on_one_instance_is_seen_on_it_at_once_and_on_the_other_within_a_second(
    valkey: Valkey, method: str
) -> None:
    async with running_pair(valkey) as pair:
        for app in (pair.one, pair.two):
            await get(app.port, PATH)

        pair.content = b"new"
        await fetch(pair.one.port, method, PATH, {}, b"change")

        assert (await get(pair.one.port, PATH)).body == b"new"
        changed = time.monotonic()
        while (await get(pair.two.port, PATH)).body != b"new":
            assert time.monotonic() - changed < 1
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("writer", ["one", "two"])
async def test_e11_fill_that_a_change_overtakes_is_nobody_elses_answer(valkey: Valkey, writer: str) -> None:
    async with running_pair(valkey) as pair:
        gate = Gate()

        async def slow(turn: Turn) -> None:
            await gate(turn)
            await reply(200, FRESH, b"old")(turn)

        pair.upstream.forget()
        pair.upstream.on(PATH, slow, times=1)
        pair.upstream.on("*", pair.page)

        reading = asyncio.ensure_future(get(pair.one.port, PATH))
        await gate.reached.wait()
        pair.content = b"new"
        await fetch((pair.one if writer == "one" else pair.two).port, "PUT", PATH, {}, b"change")
        if writer == "two":
            await asyncio.sleep(0.2)
        gate.open()
        await reading

        for app in (pair.one, pair.two, pair.one):
            assert (await get(app.port, PATH)).body == b"new"


@pytest.mark.parametrize("selection", ["url=/r", "all=true", "route=everything"])
async def test_e11_purge_on_one_instance_reaches_both(valkey: Valkey, selection: str) -> None:
    async with running_pair(valkey) as pair:
        for app in (pair.one, pair.two):
            await get(app.port, PATH)
        pair.content = b"new"

        answer = await fetch(pair.one.admin_port, "POST", f"/purge?{selection}", {}, b"")

        assert answer.status == 200, answer.body
        assert (await get(pair.one.port, PATH)).body == b"new"
        changed = time.monotonic()
        while (await get(pair.two.port, PATH)).body != b"new":
            assert time.monotonic() - changed < 1
            await asyncio.sleep(0.005)


async def test_e11_redis_that_forgets_everything_brings_nothing_old_back(valkey: Valkey) -> None:
    async with running_pair(valkey) as pair:
        await get(pair.one.port, PATH)
        await stored_in_redis(valkey)
        value = {name: valkey.command("DUMP", name) for name in responses(valkey)}
        pair.content = b"new"
        await fetch(pair.one.port, "PUT", PATH, {}, b"change")
        valkey.flush()
        for name, dumped in value.items():  # as a replica would bring it back that lagged behind
            valkey.command("RESTORE", name, 60_000, dumped)

        assert (await get(pair.two.port, PATH)).body == b"new"


async def test_e11_killed_redis_costs_no_client_an_error(valkey: Valkey) -> None:
    async with running_pair(valkey) as pair:
        await get(pair.one.port, PATH)
        valkey.kill()

        statuses = {
            (await get(app.port, f"{PATH}?{number}")).status for app in (pair.one, pair.two) for number in range(10)
        }

        assert statuses == {200}
        assert (await get(pair.one.port, PATH)).body == b"old"
