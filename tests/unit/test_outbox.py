"""Writes of one turn of the event loop, made together."""

import asyncio

from proxy.outbox import Outbox


async def test_the_first_write_of_a_turn_is_made_at_once() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    written: list[bytes] = []

    outbox.post(written.append, b"a")
    assert written == [b"a"]
    await asyncio.sleep(0)
    outbox.post(written.append, b"b")
    assert written == [b"a", b"b"]


async def test_with_several_exchanges_under_way_even_the_first_write_waits() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    outbox.exchanges = 2
    written: list[bytes] = []

    outbox.post(written.append, b"a")
    assert written == []
    await asyncio.sleep(0)
    assert written == [b"a"]


async def test_further_writes_of_a_turn_are_made_together_and_in_order() -> None:
    outbox = gathering()
    written: list[bytes] = []

    outbox.post(written.append, b"a")
    outbox.post(written.append, b"b")

    assert written == []
    await asyncio.sleep(0)
    assert written == [b"a", b"b"]


async def test_flush_writes_now_and_only_once() -> None:
    outbox = gathering()
    written: list[bytes] = []
    outbox.post(written.append, b"a")

    outbox.flush()

    assert written == [b"a"]
    await asyncio.sleep(0)
    assert written == [b"a"]


async def test_a_transport_that_has_closed_does_not_keep_others_from_theirs() -> None:
    outbox = gathering()
    written: list[bytes] = []

    def refuse(data: bytes) -> None:
        raise RuntimeError("the handler is closed")

    outbox.post(refuse, b"a")
    outbox.post(written.append, b"b")
    outbox.flush()

    assert written == [b"b"]


def gathering() -> Outbox:
    """An outbox whose turn has had its first write."""
    outbox = Outbox(asyncio.get_running_loop())
    outbox.post(lambda _: None, b"")
    return outbox
