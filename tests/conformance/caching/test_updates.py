"""What a 304 changes of a stored response: RFC 9111 sections 3.2 and 4.3.4."""

import pytest

from tests.support.cache_site import cache_site, own_fields
from tests.support.messages import Fields, Response

STORED: Fields = [("Cache-Control", "max-age=10"), ("ETag", '"a"'), ("X-Old", "old")]


async def after_update(stored: Fields, update: Fields) -> tuple[Response, Response]:
    """The answer that a 304 made possible, and a hit after it."""
    async with cache_site() as site:
        site.serve([*STORED, *stored], b"stored", times=1)
        site.serve([("Cache-Control", "max-age=100"), ("ETag", '"a"'), *update], status=304, times=1)
        site.serve([("Cache-Control", "max-age=100")], b"another")

        await site.get()
        site.later(11)
        answer = await site.get()
        hit = await site.get()

    return answer, hit


@pytest.mark.parametrize(
    ("stored", "update", "values"),
    [
        ([], [("X-New", "1")], {"X-New": ["1"]}),
        ([("X-New", "1")], [("X-New", "2")], {"X-New": ["2"]}),
        ([("X-New", "1")], [("x-new", "2")], {"X-New": ["2"]}),
        ([("X-New", "1"), ("X-New", "2")], [("X-New", "3")], {"X-New": ["3"]}),
        ([("X-New", "1")], [("X-New", "2"), ("X-New", "3")], {"X-New": ["2", "3"]}),
        ([("X-New", "1")], [("X-New", "")], {"X-New": [""]}),
        ([("X-New", "1")], [], {"X-New": ["1"], "X-Old": ["old"]}),
        ([("Content-Foo", "1")], [("Content-Foo", "2")], {"Content-Foo": ["2"]}),
        ([("Content-Type", "text/plain")], [("Content-Type", "text/html")], {"Content-Type": ["text/html"]}),
        ([("Content-Language", "de")], [("Content-Language", "en")], {"Content-Language": ["en"]}),
        ([("Content-Location", "/a")], [("Content-Location", "/b")], {"Content-Location": ["/b"]}),
        ([("Content-Security-Policy", "a")], [("Content-Security-Policy", "b")], {"Content-Security-Policy": ["b"]}),
        ([("Expires", "0")], [("Expires", "1")], {"Expires": ["1"]}),
        ([("Link", "<a>")], [("Link", "<b>")], {"Link": ["<b>"]}),
        ([("Last-Modified", "{-100}")], [("X-New", "1")], {"X-New": ["1"]}),
    ],
)
@pytest.mark.requirement("9111-3.2-1", "9111-3.2-3", "9111-4.3.4-2")
async def test_fields_of_a_304_replace_those_of_their_name(
    stored: Fields, update: Fields, values: dict[str, list[str]]
) -> None:
    for answer in await after_update(stored, update):
        assert (answer.status, answer.body) == (200, b"stored")
        assert {name: answer.header_list(name) for name in values} == values
        assert answer.header_list("Cache-Control") == ["max-age=100"]


@pytest.mark.requirement("9111-3.2-1", "9111-4.3.4-2")
async def test_date_is_that_of_the_304() -> None:
    async with cache_site() as site:
        site.serve(STORED, b"stored", times=1)
        site.serve([("Cache-Control", "max-age=100"), ("ETag", '"a"')], status=304)

        await site.get()
        site.later(50)
        await site.get()
        validated = site.date()
        site.later(9)
        hit = await site.get()

        assert (hit.header("Date"), hit.header("Age"), site.fills) == (validated, "9", 2)


@pytest.mark.parametrize("length", ["0", "5", "999", "6"])
@pytest.mark.requirement("9111-3.2-2")
async def test_content_length_is_not_updated(length: str) -> None:
    answers = await after_update([], [("Content-Length", length)])

    assert [(each.body, each.header("Content-Length")) for each in answers] == [(b"stored", "6")] * 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Content-Range", "bytes 0-1/6"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=1"),
        ("Proxy-Authenticate", 'Basic realm="x"'),
        ("Proxy-Authentication-Info", "x"),
        ("X-Private", "1"),
    ],
)
@pytest.mark.requirement("9111-3.2-2", "9111-3.1-3", "9110-7.6.1-1")
async def test_fields_that_are_not_stored_are_not_updated_either(field: str, value: str) -> None:
    update: Fields = [("Connection", "X-Hop")] if field == "X-Hop" else []
    if field == "X-Private":
        update = [("Cache-Control", 'private="x-private"')]

    _, hit = await after_update([], [*update, (field, value)])

    assert (hit.status, hit.body) == (200, b"stored")
    assert hit.header(field) is None


@pytest.mark.parametrize("control", ["no-store", "private", "no-cache", "max-age=0"])
@pytest.mark.requirement("9111-5.2.2-1", "9111-4.3.4-2")
async def test_directives_of_a_304_are_obeyed(control: str) -> None:
    async with cache_site() as site:
        site.serve(STORED, b"stored", times=1)
        site.serve([("Cache-Control", control), ("ETag", '"a"')], status=304, times=1)
        site.serve([("ETag", '"b"')], b"another")

        await site.get()
        site.later(11)
        answer = await site.get()

        assert (answer.status, answer.body) == (200, b"stored")
        assert (await site.get()).body == b"another"


@pytest.mark.requirement("9111-3.2-1", "9111-4.1-1")
async def test_vary_of_a_304_is_followed() -> None:
    async with cache_site() as site:
        site.serve(STORED, b"stored", times=1)
        site.serve([("Cache-Control", "max-age=100"), ("ETag", '"a"'), ("Vary", "X-One")], status=304, times=1)
        site.serve([("Cache-Control", "max-age=100")], b"another")

        await site.get(headers={"X-One": "1"})
        site.later(11)
        await site.get(headers={"X-One": "1"})

        assert await site.is_hit(headers={"X-One": "1"})
        assert not await site.is_hit(headers={"X-One": "2"})


@pytest.mark.requirement("9111-3.2-1", "9111-3.1-1")
async def test_answer_of_the_validation_and_hits_after_it_have_the_same_fields() -> None:
    answer, hit = await after_update([("X-Same", "1")], [("X-New", "1"), ("X-Old", "2")])

    assert own_fields(answer) == own_fields(hit)
