import pytest

from proxy.protocol.framing import is_chunked, parse_content_length


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"7", 7), (b"9" * 19, int("9" * 19))])
def test_canonical_length_is_read(value: bytes, length: int) -> None:
    assert parse_content_length(value) == length


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"00", b"007", b"+2", b"-1", b"0x2", b"1_0", b"2, 2", b" 2", b"2 ", b"1.0", b"1e3", b"9" * 20),
        *(b"\xb2", "\uff11".encode(), b"1" * 5000),
    ],
)
def test_any_other_length_is_refused(value: bytes) -> None:
    assert parse_content_length(value) is None


def test_chunked_is_known_in_any_case() -> None:
    assert is_chunked(b"Chunked")
    assert not is_chunked(b"gzip, chunked")
