"""Messages about purges: what is not understood is about everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.protocol.caching.stored import Validity
from proxy.storage.purge_messages import PurgeMessage, read_message, write_message

EVERYTHING = PurgeMessage(b"", (("*", Validity.GONE),))
LEVELS = st.sampled_from([Validity.SOFT, Validity.INVALID, Validity.GONE])
TAGS = st.text("abcXYZ019:=%~*._- ", min_size=1)


@given(st.lists(st.tuples(TAGS, LEVELS), min_size=1))
def test_a_message_says_what_was_written(changes: list[tuple[str, Validity]]) -> None:
    assert read_message(write_message(b"me", changes)) == PurgeMessage(b"me", tuple(changes))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1 me",
        b"2 me\n3 a",
        b"1 me\n",
        b"1 me\n3",
        b"1 me\n3 ",
        b"1 me\n0 a",
        b"1 me\n4 a",
        b"1 me\n-1 a",
        b"1 me\nx a",
        b"1 me\n3 a\n\n",
        b"\xff\x00",
    ],
)
def test_what_is_no_message_of_ours_is_about_everything(data: bytes) -> None:
    assert read_message(data) == EVERYTHING


@given(st.binary())
def test_any_bytes_are_read(data: bytes) -> None:
    assert read_message(data).changes
