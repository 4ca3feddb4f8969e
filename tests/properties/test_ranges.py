"""Whatever a Range asks for, what is sent of it is right; whatever parts come, only what fits is put together."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.protocol.caching.ranges import combined, part_of, requested
from proxy.protocol.caching.stored import Part, StoredResponse
from tests.support.stored import make_stored

BODY = bytes(range(40))
SPECS = st.one_of(
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    st.integers(0, 50).map(lambda first: f"{first}-"),
    st.integers(0, 50).map(lambda size: f"-{size}"),
)


def asked_for(specs: list[str], length: int) -> set[int] | None:
    """The bytes that the specs name, one by one; None when one of them ends before it begins."""
    found: set[int] = set()
    for spec in specs:
        first, last = spec.split("-")
        if first and last and int(last) < int(first):
            return None
        begin = int(first) if first else max(length - int(last), 0)
        found.update(range(begin, min(int(last) + 1, length) if first and last else length))
    return found


@given(st.lists(SPECS, min_size=1, max_size=8), st.integers(1, 40))
def test_the_bytes_asked_for_are_those_sent(specs: list[str], length: int) -> None:
    ranges = requested(f"bytes={','.join(specs)}".encode(), length)

    expected = asked_for(specs, length)
    if ranges is None:
        assert expected is None or expected == set(range(length))
    else:
        sent = [position for first, last in ranges for position in range(first, last + 1)]
        assert len(sent) == len(set(sent))
        assert set(sent) == expected


@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(b"bytes=".__add__)), st.integers(0, 100))
def test_no_value_does_harm(value: bytes, length: int) -> None:
    for first, last in requested(value, length) or []:
        assert 0 <= first <= last < length
    part_of(206, [(b"Content-Range", value)], length)


@st.composite
def parts(draw: st.DrawFn) -> StoredResponse:
    first = draw(st.integers(0, 39))
    last = draw(st.integers(first, 39))
    return make_stored(BODY[first : last + 1], etag=b'"a"', part=Part(first, 40))


@given(parts(), parts())
def test_combined_parts_have_the_bytes_of_both_and_no_others(old: StoredResponse, new: StoredResponse) -> None:
    both = combined(old, new)
    known = {position for each in (old, new) if each.part for position in positions(each)}

    if both is None:
        assert known != set(range(min(known), max(known) + 1))
    else:
        assert set(positions(both)) == known
        assert bytes(positions(both)) == both.body
        assert (both.part is None) is (len(both.body) == 40)


def positions(stored: StoredResponse) -> range:
    """Where the bytes of `stored` are in the representation."""
    first = 0 if stored.part is None else stored.part.first
    return range(first, first + len(stored.body))
