"""Fills: who shares one, how long it goes on, what its readers get, and that everything is given back."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any
from weakref import ref

import pytest

from proxy.errors import (
    ClientDisconnected,
    ConnectionRefused,
    DeadlineExceeded,
    InternalError,
    ProxyError,
    ResponseIncomplete,
    UpstreamTimeout,
)
from proxy.exchange import Exchange, Response
from proxy.policies.caching.fill import Fill
from proxy.policies.caching.fill_body import PIECE, WINDOW, copy_of
from proxy.policies.caching.fill_request import fill_exchange
from proxy.policies.caching.fills import Fills
from proxy.policies.caching.keeper import Kind
from proxy.protocol.caching.stored import StoredResponse
from tests.support.clock import ManualClock
from tests.support.exchange import Outcome, ScriptedHandler, make_exchange
from tests.support.fills import STORABLE, TERMS, ArrivingBody, ShelfKeeper
from tests.support.upstream_client import read_all

pytestmark = pytest.mark.both_loops

MAX_BODY = 1000
STORED = StoredResponse(200, b"OK", ((b"ETag", b'"1"'),), b"known", TERMS)


class Answer:
    """An upstream's response, which comes when it is told to; remembers what became of it."""

    def __init__(
        self,
        body: bytes | ArrivingBody = b"body",
        *fields: tuple[bytes, bytes],
        status: int = 200,
        is_storable: bool = True,
        is_open_ended: bool = False,
    ) -> None:
        headers = [(b"Content-Type", b"text/plain"), *fields, *([STORABLE] if is_storable else [])]
        self.response = Response(status, headers, body)
        self.response.is_open_ended = is_open_ended
        self.response.on_close(self._closed)
        self.closed = 0
        self.exchange: Exchange | None = None
        self.blamed: Exception | None = None
        """What had ended the fill's exchange when the response was closed."""
        self.was_cancelled = False
        self.comes = asyncio.Event()

    def _closed(self) -> None:
        self.closed += 1
        self.blamed = None if self.exchange is None else self.exchange.error

    async def __call__(self, exchange: Exchange) -> Response:
        self.exchange = exchange
        try:
            await self.comes.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return self.response


class Setup:
    """Fills, one keeper and what is asked of the upstream."""

    def __init__(self, *outcomes: Outcome, known: StoredResponse | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = ManualClock()
        self.wall = ManualClock(1_700_000_000.0)
        self.fills: Fills[ShelfKeeper] = Fills(self.loop, self.clock, self.wall)
        self.keeper = ShelfKeeper(known)
        self.handler = ScriptedHandler(*outcomes)

    def start(self, kind: Kind = "miss", key: bytes | None = b"key", **options: Any) -> Fill[ShelfKeeper]:
        own = fill_exchange(make_exchange(), now=self.clock(), loop=self.loop, **options)
        return self.fills.start(own, self.handler, self.keeper, key=key, kind=kind, max_body=MAX_BODY)

    def waiting(self, fill: Fill[ShelfKeeper], deadline: float | None = None) -> asyncio.Task[bytes]:
        """A client that waits for the head and reads the body."""
        return self.loop.create_task(read_from(fill, deadline))

    @property
    def is_at_rest(self) -> bool:
        return len(self.fills) == 0 and self.fills.find(b"key") is None


async def read_from(fill: Fill[ShelfKeeper], deadline: float | None = None) -> bytes:
    await fill.head(deadline)
    exchange = make_exchange()
    exchange.deadline = deadline
    response = fill.join(exchange)
    try:
        return await read_all(response)
    finally:
        response.close()


async def settle() -> None:
    """Let everything run that can run now."""
    for _ in range(12):
        await asyncio.sleep(0)


def late(setup: Setup) -> float:
    """A deadline that has passed, the time for better explanations included."""
    return setup.clock() - 1.0


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await settle()
    current = asyncio.current_task()
    assert asyncio.all_tasks() - before <= {current}


# --- one request for all ---


async def test_one_request_answers_all_who_wait() -> None:
    answer = Answer(b"shared")
    setup = Setup(answer)
    fill = setup.start()
    readers = [setup.waiting(fill) for _ in range(50)]
    await settle()
    assert setup.fills.find(b"key") is fill

    setup.clock.advance(0.25)
    setup.wall.advance(0.25)
    answer.comes.set()

    assert await asyncio.gather(*readers) == [b"shared"] * 50
    assert len(setup.handler.exchanges) == 1
    assert answer.closed == 1
    assert [stored.body for stored in setup.keeper.kept] == [b"shared"]
    assert setup.keeper.outcomes == ["stored"]
    assert setup.keeper.seconds == [0.25]
    assert setup.keeper.received_at == [1_700_000_000.25]
    assert setup.is_at_rest


async def test_each_reader_has_fields_of_its_own() -> None:
    answer = Answer()
    answer.comes.set()
    fill = Setup(answer).start()
    await fill.head()

    first, second = fill.join(), fill.join()
    first.headers.append((b"Age", b"0"))

    assert second.headers == answer.response.headers
    assert (await fill.head()).headers == second.headers


async def test_complete_response_costs_at_most_one_turn_of_the_loop_more() -> None:
    answer = Answer()
    setup = Setup(answer)
    fill = setup.start()
    reader = setup.waiting(fill)
    await settle()
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        if not reader.done():
            setup.loop.call_soon(count)

    answer.comes.set()
    setup.loop.call_soon(count)
    await reader

    # Two would do without a fill: one for the event, one for whoever waits for it.
    assert turns <= 3 + 1  # the last one finds the reader done


async def test_upstream_that_answers_without_a_wait_is_read_to_the_end() -> None:
    async def at_once(exchange: Exchange) -> Response:
        body = ArrivingBody(b"a" * MAX_BODY, b"b" * MAX_BODY, b"c")
        body.ends()
        return Response(200, [STORABLE], body)

    setup = Setup(at_once)

    body = await read_from(setup.start())

    assert body == b"a" * MAX_BODY + b"b" * MAX_BODY + b"c"
    assert setup.keeper.outcomes == ["too_large"]
    assert setup.is_at_rest


async def test_private_fill_is_not_found() -> None:
    answer = Answer()
    setup = Setup(answer)
    fill = setup.start(key=None)
    reader = setup.waiting(fill)
    await settle()

    assert setup.fills.find(b"key") is None
    assert not fill.is_joinable

    answer.comes.set()
    assert await reader == b"body"
    assert setup.keeper.kept


async def test_later_fill_of_a_key_takes_the_place_of_the_earlier() -> None:
    first, second = Answer(b"1"), Answer(b"2")
    setup = Setup(first, second)
    earlier = setup.start()
    reading = setup.waiting(earlier)
    later = setup.start()
    assert setup.fills.find(b"key") is later

    await settle()
    first.comes.set()
    assert await reading == b"1"
    assert setup.fills.find(b"key") is later

    second.comes.set()
    assert await read_from(later) == b"2"
    assert setup.is_at_rest


# --- a body that arrives ---


async def test_followers_read_from_the_first_byte_whenever_they_join() -> None:
    body = ArrivingBody(b"one,")
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    leader = setup.waiting(fill)
    await settle()
    follower = setup.waiting(fill)
    body.arrives(b"two,")
    await settle()
    assert fill.is_joinable
    last = setup.waiting(fill)
    body.arrives(b"three")
    body.ends()

    assert set(await asyncio.gather(leader, follower, last)) == {b"one,two,three"}
    assert setup.keeper.kept[0].body == b"one,two,three"
    assert answer.closed == 1


async def test_response_is_given_back_while_it_is_still_being_read() -> None:
    body = ArrivingBody(b"a" * 300, b"b" * 300)
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    await fill.head()
    response = fill.join()
    body.ends()
    await settle()

    assert answer.closed == 1
    assert setup.is_at_rest
    assert await read_all(response) == b"a" * 300 + b"b" * 300
    response.close()


async def test_reader_gets_long_bodies_in_pieces() -> None:
    body = ArrivingBody(b"x" * (3 * PIECE + 1))
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    await fill.head()
    response = fill.join()
    assert not isinstance(response.body, bytes)
    assert repr(response.body) == "<BodyReader at 0 of <SharedBody 0..196609 readers=1 over=False>>"
    body.ends()

    assert [len(await response.body.read()) for _ in range(5)] == [PIECE, PIECE, PIECE, 1, 0]
    response.close()


async def test_what_joins_after_the_end_gets_all_at_once() -> None:
    answer = Answer(ArrivingBody(b"all"))
    answer.comes.set()
    setup = Setup(answer)
    setup.keeper.shelf_is_free.clear()
    fill = setup.start()
    assert isinstance(answer.response.body, ArrivingBody)
    answer.response.body.ends()
    assert (await fill.completed()) is not None

    assert setup.fills.find(b"key") is fill  # until it is kept, or there would be another
    assert fill.join().body == b"all"

    setup.keeper.shelf_is_free.set()
    await settle()
    assert setup.is_at_rest


async def test_nobody_can_join_before_the_head() -> None:
    answer = Answer(b"body")
    setup = Setup(answer)
    fill = setup.start()
    with pytest.raises(LookupError):
        fill.join()
    assert repr(fill) == "<Fill miss '/' head=False None>"
    assert repr(setup.fills) == "<Fills running=1 joinable=1>"

    answer.comes.set()
    assert await read_from(fill) == b"body"


# --- who leaves ---


async def test_leader_that_leaves_does_not_end_it() -> None:
    answer = Answer(b"for the others")
    setup = Setup(answer)
    fill = setup.start()
    leader, follower = setup.waiting(fill), setup.waiting(fill)
    await settle()

    leader.cancel()
    await settle()
    assert fill.is_joinable
    answer.comes.set()

    assert await follower == b"for the others"
    assert setup.keeper.outcomes == ["stored"]
    assert leader.cancelled()


async def test_last_one_to_leave_before_the_head_ends_it() -> None:
    answer = Answer()
    setup = Setup(answer)
    fill = setup.start()
    waiting = [setup.waiting(fill) for _ in range(3)]
    await settle()

    for task in waiting:
        task.cancel()
    await settle()

    assert answer.was_cancelled
    assert setup.keeper.outcomes == ["cancelled"]
    assert setup.is_at_rest
    assert not fill.is_joinable


async def test_last_reader_to_leave_ends_it_and_gives_the_response_back() -> None:
    body = ArrivingBody(b"begun")
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    readers = [setup.waiting(fill) for _ in range(3)]
    await settle()

    for task in readers:
        task.cancel()
    await settle()

    assert answer.closed == 1
    assert isinstance(answer.blamed, ClientDisconnected)  # no success of the upstream, and no failure either
    assert setup.keeper.outcomes == ["cancelled"]
    assert setup.keeper.kept == []
    assert setup.is_at_rest


async def test_one_who_waits_for_the_whole_keeps_it_going() -> None:
    body = ArrivingBody(b"a")
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    reader = setup.waiting(fill)
    whole = setup.loop.create_task(fill.completed())
    await settle()

    reader.cancel()
    await settle()
    body.arrives(b"b")
    body.ends()

    stored = await whole
    assert stored is not None
    assert stored.body == b"ab"


@pytest.mark.parametrize("kind", ["refresh", "warm"])
async def test_what_nobody_waits_for_goes_on_alone(kind: Kind) -> None:
    body = ArrivingBody(b"fresh")
    answer = Answer(body)
    setup = Setup(answer)
    fill = setup.start(kind, is_background=True)
    follower = setup.waiting(fill)
    await settle()

    follower.cancel()
    await settle()
    answer.comes.set()
    await settle()
    body.ends()
    await settle()

    assert [stored.body for stored in setup.keeper.kept] == [b"fresh"]
    assert setup.is_at_rest


async def test_head_without_a_join_is_a_leave() -> None:
    body = ArrivingBody(b"a")
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)

    await setup.start().head()
    await settle()

    assert setup.keeper.outcomes == ["cancelled"]
    assert answer.closed == 1
    assert setup.is_at_rest


async def test_what_is_complete_is_kept_although_all_have_left() -> None:
    answer = Answer(b"kept")
    answer.comes.set()
    setup = Setup(answer)
    setup.keeper.shelf_is_free.clear()

    assert await read_from(setup.start()) == b"kept"
    await settle()
    assert not setup.is_at_rest
    setup.keeper.shelf_is_free.set()
    await settle()

    assert [stored.body for stored in setup.keeper.kept] == [b"kept"]
    assert setup.keeper.outcomes == ["stored"]
    assert setup.is_at_rest


# --- deadlines ---


async def test_waiter_whose_deadline_passes_leaves_the_others_alone() -> None:
    answer = Answer(b"in time for one")
    setup = Setup(answer)
    fill = setup.start()
    patient = setup.waiting(fill, setup.clock() + 60)
    with pytest.raises(DeadlineExceeded):
        await fill.head(late(setup))
    with pytest.raises(DeadlineExceeded):
        await fill.completed(late(setup))

    assert fill.is_joinable
    answer.comes.set()
    assert await patient == b"in time for one"


async def test_it_ends_when_the_deadline_of_the_last_waiter_passes() -> None:
    answer = Answer()
    setup = Setup(answer)

    with pytest.raises(DeadlineExceeded):
        await setup.start().head(late(setup))
    await settle()

    assert answer.was_cancelled
    assert setup.is_at_rest


async def test_reader_reads_until_its_own_deadline() -> None:
    body = ArrivingBody(b"begun")
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    await fill.head()
    patient, hasty = make_exchange(), make_exchange()
    hasty.deadline = late(setup)
    first, second = fill.join(patient), fill.join(hasty)
    assert not isinstance(second.body, bytes)
    await settle()

    assert await second.body.read() == b"begun"
    with pytest.raises(DeadlineExceeded):
        await second.body.read()
    with pytest.raises(DeadlineExceeded):
        await second.body.read()
    second.close()

    body.ends()
    assert await read_all(first) == b"begun"
    first.close()


async def test_upstreams_own_timeout_has_the_word_when_both_end_together() -> None:
    answer = Answer()

    async def times_out(exchange: Exchange) -> Response:
        await answer.comes.wait()
        raise UpstreamTimeout("total")

    setup = Setup(times_out)
    waiting = setup.waiting(setup.start(), setup.clock())  # now: there is still the backstop's time
    await settle()
    answer.comes.set()

    with pytest.raises(UpstreamTimeout):
        await waiting


# --- failures ---


async def test_every_waiter_gets_an_error_of_its_own() -> None:
    async def fails(exchange: Exchange) -> Response:
        await asyncio.sleep(0)
        raise ConnectionRefused("nobody there", cause="connect", retry_after=3.0)

    setup = Setup(fails)
    fill = setup.start()

    outcomes = await asyncio.gather(*(read_from(fill) for _ in range(3)), return_exceptions=True)

    errors = [error for error in outcomes if isinstance(error, ConnectionRefused)]
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert (error.detail, error.cause, error.retry_after) == ("nobody there", "connect", 3.0)
        assert str(error) == "nobody there"
        assert error.__context__ is None
    assert setup.keeper.outcomes == ["failed"]
    assert setup.is_at_rest


async def test_kept_error_does_not_grow_with_those_who_get_it() -> None:
    setup = Setup(ConnectionRefused())
    fill = setup.start()

    lengths = set()
    for _ in range(5):
        with pytest.raises(ConnectionRefused) as caught:
            await fill.head()
        lengths.add(len(caught.traceback))
        with pytest.raises(ConnectionRefused):
            fill.join()

    assert len(lengths) == 1
    assert fill.error is not None
    assert fill.error.__traceback__ is None
    assert await fill.completed() is None


@pytest.mark.parametrize(
    "error", [UpstreamTimeout("idle"), UpstreamTimeout("total", "other words"), ProxyError(), ResponseIncomplete("x")]
)
def test_copy_of_an_error_says_the_same(error: ProxyError) -> None:
    copy = copy_of(error)

    assert copy is not error
    assert type(copy) is type(error)
    assert (copy.args, vars(copy)) == (error.args, vars(error))


async def test_failure_within_the_body_reaches_every_reader_after_what_came_before() -> None:
    body = ArrivingBody(b"half")
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    await fill.head()
    responses = [fill.join() for _ in range(3)]
    whole = setup.loop.create_task(fill.completed())
    await settle()
    body.ends(ResponseIncomplete())
    await settle()

    for response in responses:
        assert not isinstance(response.body, bytes)
        assert await response.body.read() == b"half"
        with pytest.raises(ResponseIncomplete):
            await response.body.read()
        response.close()
    assert await whole is None
    assert isinstance(fill.error, ResponseIncomplete)
    assert answer.closed == 1
    assert isinstance(answer.blamed, ResponseIncomplete)
    assert setup.keeper.kept == []
    assert setup.keeper.outcomes == ["failed"]
    assert setup.is_at_rest


async def test_failure_within_the_body_before_anybody_has_joined_is_an_error() -> None:
    body = ArrivingBody(b"half")
    body.ends(ResponseIncomplete())
    answer = Answer(body)
    setup = Setup(answer)
    waiting = setup.waiting(setup.start())
    await settle()
    answer.comes.set()

    with pytest.raises(ResponseIncomplete):
        await waiting


@pytest.mark.parametrize("bug", ["handler", "judge", "body"])
async def test_bug_is_logged_once_and_an_internal_error_for_all(bug: str, caplog: pytest.LogCaptureFixture) -> None:
    body = ArrivingBody()
    body.ends(KeyError("a bug"))
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(KeyError("a bug") if bug == "handler" else answer)
    setup.keeper.bug = "judge" if bug == "judge" else ""
    fill = setup.start()

    outcomes = await asyncio.gather(*(read_from(fill) for _ in range(3)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [InternalError] * 3
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    assert answer.closed == (bug != "handler")
    assert setup.keeper.outcomes == ["failed"]
    assert setup.is_at_rest


async def test_response_that_cannot_be_kept_is_delivered_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    answer = Answer(b"good")
    answer.comes.set()
    setup = Setup(answer)
    setup.keeper.bug = "keep"

    assert await read_from(setup.start()) == b"good"
    assert setup.keeper.outcomes == ["not_stored"]
    assert "could not be kept" in caplog.text


async def test_closing_ends_all_fills() -> None:
    answer = Answer()
    setup = Setup(answer)
    waiting = setup.waiting(setup.start())
    setup.start("refresh", b"other")
    await settle()

    await setup.fills.close()

    with pytest.raises(InternalError):
        await waiting
    assert setup.keeper.outcomes == ["cancelled", "cancelled"]
    assert setup.is_at_rest


async def test_closing_does_not_wait_for_what_is_being_kept() -> None:
    answer = Answer(b"body")
    answer.comes.set()
    setup = Setup(answer)
    setup.keeper.shelf_is_free.clear()
    fill = setup.start()
    assert await read_from(fill) == b"body"

    await setup.fills.close()

    assert fill.error is None
    assert setup.keeper.outcomes == ["cancelled"]
    assert setup.is_at_rest


# --- what is not kept ---


async def test_unstorable_body_goes_to_its_leader_as_it_comes() -> None:
    body = ArrivingBody(b"live")
    answer = Answer(body, is_storable=False)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    head = await fill.head()
    assert head.judged == (None, "no_freshness", False)

    response = fill.join(make_exchange())

    assert response.body is body
    assert response.headers == answer.response.headers
    assert not fill.is_joinable
    assert setup.is_at_rest
    with pytest.raises(LookupError):
        fill.join()
    assert await fill.completed() is None
    assert setup.keeper.outcomes == []

    setup.clock.advance(2.0)
    response.close()
    assert answer.closed == 1
    assert answer.blamed is None
    assert setup.keeper.outcomes == ["not_stored"]
    assert setup.keeper.seconds == [2.0]


async def test_leader_that_leaves_within_an_unstorable_body_is_no_success_of_the_upstream() -> None:
    answer = Answer(ArrivingBody(), is_storable=False)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    await fill.head()
    exchange = make_exchange()
    response = fill.join(exchange)

    exchange.error = ClientDisconnected()
    response.close()

    assert isinstance(answer.blamed, ClientDisconnected)


@pytest.mark.parametrize("kind", ["miss", "refresh"])
async def test_unstorable_body_that_nobody_takes_is_closed(kind: Kind) -> None:
    answer = Answer(ArrivingBody(), is_storable=False)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start(kind)
    if kind == "miss":
        await fill.head()
    await settle()

    assert answer.closed == 1
    assert setup.keeper.outcomes == ["not_stored"]
    with pytest.raises(LookupError):
        fill.join()
    assert setup.is_at_rest


async def test_leader_cancelled_in_the_moment_of_an_unstorable_head_leaves_nothing_open() -> None:
    answer = Answer(ArrivingBody(), is_storable=False)
    setup = Setup(answer)
    waiting = setup.waiting(setup.start())
    await settle()

    answer.comes.set()
    setup.loop.call_soon(lambda: setup.loop.call_soon(waiting.cancel))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await settle()

    assert answer.closed == 1
    assert setup.is_at_rest


async def test_own_deadline_bounds_an_unstorable_body() -> None:
    answer = Answer(ArrivingBody(b"a"), is_storable=False)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    await fill.head()
    exchange = make_exchange()
    exchange.deadline = setup.clock() + 0.005  # sooner than the fill's
    response = fill.join(exchange)
    assert not isinstance(response.body, bytes)

    assert await response.body.read() == b"a"
    with pytest.raises(DeadlineExceeded):
        await response.body.read()
    response.close()


async def test_short_unstorable_response_is_for_all_who_want_it() -> None:
    answer = Answer(b"once", is_storable=False)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    await fill.head()

    assert [fill.join().body for _ in range(2)] == [b"once"] * 2
    assert answer.closed == 1
    assert setup.keeper.outcomes == ["not_stored"]


async def test_long_failure_is_for_all_who_waited() -> None:
    body = ArrivingBody(b"bro", b"ken")
    answer = Answer(body, status=503, is_storable=False)
    setup = Setup(answer)
    fill = setup.start()
    readers = [setup.waiting(fill) for _ in range(3)]
    await settle()
    answer.comes.set()
    await settle()
    assert not fill.is_joinable
    body.ends()

    assert await asyncio.gather(*readers) == [b"broken"] * 3
    assert answer.closed == 1
    assert setup.keeper.outcomes == ["not_stored"]
    assert setup.keeper.kept == []
    assert setup.is_at_rest


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (lambda: Answer(ArrivingBody(), (b"Content-Length", b"1001")), "too_large"),
        (lambda: Answer(b"x" * 1001), "too_large"),
        (lambda: Answer(ArrivingBody(), is_open_ended=True), "open_ended"),
        (lambda: Answer(b"short", is_open_ended=True), "open_ended"),
        (lambda: Answer(ArrivingBody(), (b"content-type", b"text/event-stream")), "event_stream"),
    ],
)
async def test_what_cannot_be_kept_is_never_joinable(answer: Callable[[], Answer], refusal: str) -> None:
    made = answer()
    made.comes.set()
    setup = Setup(made)
    fill = setup.start()

    head = await fill.head()

    assert head.judged == (None, refusal, False)
    assert not fill.is_joinable
    response = fill.join()
    assert response.body is made.response.body
    response.close()
    assert setup.keeper.outcomes == ["too_large" if refusal == "too_large" else "not_stored"]
    assert setup.is_at_rest


async def test_declared_length_within_the_limit_is_kept() -> None:
    body = ArrivingBody(b"x" * MAX_BODY)
    body.ends()
    answer = Answer(body, (b"Content-Length", b"%d" % MAX_BODY))
    answer.comes.set()
    setup = Setup(answer)

    assert await read_from(setup.start()) == b"x" * MAX_BODY
    assert setup.keeper.outcomes == ["stored"]


async def test_event_stream_lifts_the_readers_deadline() -> None:
    answer = Answer(ArrivingBody(), (b"Content-Type", b"text/event-stream"), is_storable=False)
    answer.response.headers.pop(0)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    await fill.head()
    exchange = make_exchange()
    exchange.deadline = setup.clock() + 0.001

    response = fill.join(exchange)

    assert exchange.deadline is None
    assert response.body is answer.response.body
    response.close()


# --- too long ---


async def test_body_that_becomes_too_long_is_passed_on_with_flat_memory() -> None:
    body = ArrivingBody()
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    await fill.head()
    fast, slow = fill.join(), fill.join()
    whole = setup.loop.create_task(fill.completed())
    count = 40
    for _ in range(count):
        body.arrives(b"x" * PIECE)
    body.ends()
    fast_reader = setup.loop.create_task(read_all(fast))
    for _ in range(count):
        await settle()

    assert await whole is None
    assert not fill.is_joinable
    assert setup.fills.find(b"key") is None
    assert WINDOW <= body.taken * PIECE <= WINDOW + PIECE  # it waits for the slow one

    assert len(await read_all(slow)) == count * PIECE
    assert len(await fast_reader) == count * PIECE
    with pytest.raises(LookupError):
        fill.join()
    for response in (fast, slow):
        response.close()
    assert answer.closed == 1
    assert setup.keeper.outcomes == ["too_large"]
    assert setup.keeper.kept == []
    assert setup.is_at_rest


async def test_too_long_body_goes_on_when_the_slowest_reader_has_left() -> None:
    body = ArrivingBody()
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    await fill.head()
    fast, slow = fill.join(), fill.join()
    for _ in range(10):
        body.arrives(b"x" * PIECE)
    body.ends()
    reader = setup.loop.create_task(read_all(fast))
    await settle()
    assert not reader.done()

    slow.close()

    assert len(await reader) == 10 * PIECE
    fast.close()


async def test_failure_of_a_too_long_body_reaches_its_readers() -> None:
    body = ArrivingBody(b"x" * PIECE)
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    fill = setup.start()
    reader = setup.waiting(fill)
    await settle()
    body.ends(ResponseIncomplete())

    with pytest.raises(ResponseIncomplete):
        await reader
    assert answer.closed == 1
    assert setup.keeper.outcomes == ["failed"]


async def test_too_long_body_without_readers_is_given_up() -> None:
    body = ArrivingBody(b"x" * PIECE, b"more")
    answer = Answer(body)
    answer.comes.set()
    setup = Setup(answer)
    setup.start("refresh")
    await settle()

    assert answer.closed == 1
    assert setup.keeper.outcomes == ["too_large"]
    assert setup.is_at_rest


async def test_refresh_whose_readers_leave_a_too_long_body_ends() -> None:
    body = ArrivingBody(b"x" * PIECE)
    answer = Answer(body)
    setup = Setup(answer)
    reader = setup.waiting(setup.start("refresh"))
    await settle()
    answer.comes.set()
    await settle()

    reader.cancel()
    await settle()

    assert answer.closed == 1
    assert setup.keeper.outcomes == ["cancelled"]
    assert setup.is_at_rest


# --- what is updated ---


async def test_confirmed_response_is_complete_at_once() -> None:
    answer = Answer(ArrivingBody(), (b"ETag", b'"1"'), status=304)
    answer.comes.set()
    setup = Setup(answer, known=STORED)
    fill = setup.start("validate")

    head = await fill.head()

    assert head.judged == (STORED, "", True)
    response = fill.join()
    assert (response.status, response.headers, response.body) == (200, [(b"ETag", b'"1"')], b"known")
    assert answer.closed == 1
    assert setup.keeper.kept == [STORED]
    assert setup.keeper.outcomes == ["updated"]
    assert await fill.completed() is STORED


# --- what it leaves ---


@pytest.mark.parametrize("ends", ["answered", "failed", "cancelled"])
async def test_ended_fill_is_freed_without_the_garbage_collector(ends: str) -> None:
    async def run() -> "ref[Exchange]":
        answer = Answer(ArrivingBody(b"x"))
        setup = Setup(answer)
        fill = setup.start()
        own = ref(fill.exchange)
        reader = setup.waiting(fill)
        await settle()
        answer.comes.set()
        await settle()
        if ends == "cancelled":
            reader.cancel()
        else:
            assert isinstance(answer.response.body, ArrivingBody)
            answer.response.body.ends(None if ends == "answered" else ResponseIncomplete())
        await asyncio.gather(reader, return_exceptions=True)
        await settle()
        assert setup.is_at_rest
        answer.exchange = None
        return own

    gc.collect()
    gc.disable()
    try:
        own = await run()
        await settle()
        assert own() is None
    finally:
        gc.enable()


async def test_waiting_leaves_no_timer() -> None:
    answer = Answer(ArrivingBody(b"x"))
    setup = Setup(answer)
    fill = setup.start()
    timers: list[asyncio.TimerHandle] = []
    call_later: Callable[..., asyncio.TimerHandle] = setup.loop.call_later

    class Loop:
        create_future = staticmethod(setup.loop.create_future)
        call_soon = staticmethod(setup.loop.call_soon)

        @staticmethod
        def call_later(*args: Any) -> asyncio.TimerHandle:
            timers.append(call_later(*args))
            return timers[-1]

    setup.fills.loop = Loop()  # type: ignore[assignment]
    reader = setup.waiting(fill, setup.clock() + 100)
    await settle()
    answer.comes.set()
    await settle()
    assert isinstance(answer.response.body, ArrivingBody)
    answer.response.body.ends()
    await reader

    assert len(timers) == 2
    assert all(timer.cancelled() for timer in timers)
