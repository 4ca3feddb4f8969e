"""The beginning of a response head as bytes."""

import pytest

from proxy.protocol.encoded import Encoded, kinds_of, status_line
from proxy.protocol.fields import CONTENT_LENGTH, DATE, INTERNAL


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (200, b"", b"HTTP/1.1 200 OK"),
        (200, b"Fine", b"HTTP/1.1 200 Fine"),
        (299, b"", b"HTTP/1.1 299 "),
        (599, b"Odd", b"HTTP/1.1 599 Odd"),
    ],
)
def test_status_lines(status: int, reason: bytes, line: bytes) -> None:
    assert status_line(status, reason) == line


def test_lines_and_what_they_stand_for() -> None:
    fields = [(b"Date", b"now"), (b"content-length", b"3"), (b"X-Request-ID", b"theirs"), (b"X-A", b"1")]

    encoded = Encoded(200, b"", fields)

    assert encoded.lines == b"HTTP/1.1 200 OK\r\nDate: now\r\ncontent-length: 3\r\nX-A: 1"
    assert (encoded.fields, encoded.count) == (fields, 4)
    assert encoded.kinds == DATE | CONTENT_LENGTH


def test_kinds_of_all_fields() -> None:
    assert kinds_of([]) == 0
    assert kinds_of([(b"X-A", b""), (b"date", b""), (b"X-Request-Id", b"")]) == DATE | INTERNAL
