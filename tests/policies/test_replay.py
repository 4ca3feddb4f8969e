"""A body that can be sent again while it is short, and streams when it is not."""

import pytest

from proxy.errors import ClientDisconnected
from proxy.policies.replay import REPLAY_LIMIT, ReplayBody
from proxy.upstream.upload import Upload
from tests.support.exchange import PiecewiseBody


async def read_all(body: ReplayBody) -> bytes:
    pieces = []
    while not body.is_complete and (piece := await body.read()):
        pieces.append(piece)
    return b"".join(pieces)


async def test_pieces_pass_through_as_they_come() -> None:
    body = ReplayBody(PiecewiseBody(b"ab", b"c", content_length=3))

    assert (body.content_length, body.received, body.is_complete) == (3, 0, False)
    assert await body.read() == b"ab"
    assert (body.received, body.is_complete) == (2, False)
    assert await body.read() == b"c"
    assert (body.received, body.is_complete) == (3, True)
    assert await body.read() == b""


async def test_it_can_be_read_again_and_again() -> None:
    body = ReplayBody(PiecewiseBody(b"ab", b"c"))

    assert await read_all(body) == b"abc"
    for _ in range(3):
        body.rewind()
        assert not body.is_complete
        assert await read_all(body) == b"abc"
        assert body.is_complete
        assert await body.read() == b""
    assert body.received == 3


async def test_rewound_half_way_it_gives_the_beginning_and_goes_on_with_the_client() -> None:
    body = ReplayBody(PiecewiseBody(b"ab", b"c", b"de"))
    await body.read()
    await body.read()

    body.rewind()

    assert [await body.read() for _ in range(3)] == [b"abc", b"de", b""]
    body.rewind()
    assert await read_all(body) == b"abcde"


async def test_rewound_before_anything_was_read_it_is_as_new() -> None:
    body = ReplayBody(PiecewiseBody(b"ab"))

    body.rewind()
    body.rewind()

    assert await read_all(body) == b"ab"


async def test_empty_body_can_be_sent_again() -> None:
    body = ReplayBody(PiecewiseBody())

    assert await body.read() == b""
    body.rewind()
    assert body.is_complete
    assert await body.read() == b""


async def test_body_at_the_limit_can_be_sent_again() -> None:
    body = ReplayBody(PiecewiseBody(b"x" * (REPLAY_LIMIT - 1), b"y"))

    whole = await read_all(body)

    assert body.is_replayable
    body.rewind()
    assert await read_all(body) == whole
    assert len(whole) == REPLAY_LIMIT == 64 * 1024


async def test_body_beyond_the_limit_streams_on_and_cannot_be_sent_again() -> None:
    body = ReplayBody(PiecewiseBody(b"x" * REPLAY_LIMIT, b"y", b"z"))

    assert len(await body.read()) == REPLAY_LIMIT
    assert body.is_replayable
    assert await body.read() == b"y"
    assert not body.is_replayable
    assert repr(body).startswith("<ReplayBody kept=None ")
    assert await body.read() == b"z"
    assert body.received == REPLAY_LIMIT + 2
    with pytest.raises(LookupError):
        body.rewind()


async def test_nothing_is_kept_once_it_will_not_be_sent_again() -> None:
    body = ReplayBody(PiecewiseBody(b"ab", b"c"))
    await body.read()

    body.forget()

    assert not body.is_replayable
    assert await body.read() == b"c"


async def test_error_of_the_client_comes_through() -> None:
    class Left(PiecewiseBody):
        async def read(self) -> bytes:
            raise ClientDisconnected

    with pytest.raises(ClientDisconnected):
        await ReplayBody(Left()).read()


@pytest.mark.parametrize("length", [3, None], ids=["length", "chunked"])
async def test_upload_of_a_rewound_body_is_complete_with_its_first_piece(length: int | None) -> None:
    body = ReplayBody(PiecewiseBody(b"a", b"bc", content_length=length))
    await read_all(body)
    body.rewind()

    upload = await Upload.begin(body)

    assert upload.is_complete
    assert upload.first == (b"abc" if length else b"3\r\nabc\r\n0\r\n\r\n")
    assert repr(body).startswith("<ReplayBody kept=3 ")
