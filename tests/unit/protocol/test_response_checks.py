from collections.abc import Callable

import pytest

from proxy.errors import ResponseHeadTooLarge, UpstreamProtocolError
from proxy.protocol.framing import Framing
from proxy.protocol.response_checks import ResponseHead, check_response, safe_reason

Fields = list[tuple[bytes, bytes]]
CHUNKED = (b"Transfer-Encoding", b"Chunked")
LENGTH = (b"Content-Length", b"5")


def check(fields: Fields, status: int = 200, version: str = "1.1", method: str = "GET") -> ResponseHead:
    return check_response(status, version, fields, method)


@pytest.mark.parametrize(
    ("fields", "framing", "length"),
    [
        ([LENGTH], Framing.LENGTH, 5),
        ([(b"content-length", b"0")], Framing.LENGTH, 0),
        ([CHUNKED], Framing.CHUNKED, None),
        ([], Framing.CLOSE, None),
    ],
)
def test_framing_follows_the_fields(fields: Fields, framing: Framing, length: int | None) -> None:
    head = check(fields)

    assert (head.framing, head.length) == (framing, length)
    assert head.keep_alive is (framing is not Framing.CLOSE)


@pytest.mark.parametrize("fields", [[LENGTH], [CHUNKED], []])
def test_answer_to_head_has_no_body_and_keeps_its_length(fields: Fields) -> None:
    head = check(fields, method="HEAD")

    assert (head.framing, head.length, head.keep_alive) == (Framing.NONE, None, True)
    assert head.fields == [field for field in fields if field == LENGTH]


@pytest.mark.parametrize("status", [100, 103, 204, 304])
@pytest.mark.parametrize(("fields", "keep_alive"), [([], True), ([LENGTH], False), ([CHUNKED], False)])
def test_bodiless_status_that_announces_a_body_ends_the_connection(
    status: int, fields: Fields, keep_alive: bool
) -> None:
    head = check([*fields, (b"ETag", b'"1"')], status)

    assert (head.framing, head.length, head.keep_alive) == (Framing.NONE, None, keep_alive)
    assert head.fields == [(b"ETag", b'"1"')]


def test_204_with_length_zero_keeps_the_connection() -> None:
    assert check([(b"Content-Length", b"0")], 204).keep_alive


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", [], True),
        ("1.1", [b"close"], False),
        ("1.1", [b"Keep-Alive"], True),
        ("1.1", [b"keep-alive", b"x, CLOSE"], False),
        ("1.0", [], False),
        ("1.0", [b"keep-alive"], True),
        ("1.0", [b"keep-alive, close"], False),
    ],
)
def test_connection_is_kept_as_version_and_options_say(version: str, connection: list[bytes], keep_alive: bool) -> None:
    fields = [LENGTH, *[(b"Connection", value) for value in connection]]

    assert check(fields, version=version).keep_alive is keep_alive


def test_hop_by_hop_fields_and_what_connection_names_stay_behind() -> None:
    fields = [
        (b"Set-Cookie", b"a"),
        (b"Connection", b"X-Hop, content-length"),
        (b"X-Hop", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Authenticate", b"Basic"),
        (b"Trailer", b"X"),
        (b"Upgrade", b"h2c"),
        LENGTH,
        (b"set-cookie", b"b\xe9"),
    ]

    assert check(fields).fields == [(b"Set-Cookie", b"a"), LENGTH, (b"set-cookie", b"b\xe9")]


def test_wanted_101_is_a_tunnel_and_says_to_what() -> None:
    fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", b"x")]

    head = check_response(101, "1.1", fields, "GET", upgrade=True)

    assert (head.framing, head.keep_alive) == (Framing.TUNNEL, False)
    assert head.fields == [(b"Sec-WebSocket-Accept", b"x"), (b"Upgrade", b"websocket")]


@pytest.mark.parametrize(
    "check_bad",
    [
        lambda: check([], 101),
        lambda: check([], 99),
        lambda: check([], 0),
        lambda: check([], 600),
        lambda: check([], 999),
        lambda: check([], version="2.0"),
        lambda: check([], version="1.2"),
        lambda: check([LENGTH, CHUNKED]),
        lambda: check([LENGTH, LENGTH]),
        lambda: check([LENGTH, (b"content-LENGTH", b"6")]),
        lambda: check([(b"Content-Length", b"5, 5")]),
        lambda: check([(b"Content-Length", b"-1")]),
        lambda: check([(b"Content-Length", b"")]),
        lambda: check([CHUNKED, CHUNKED]),
        lambda: check([CHUNKED], version="1.0"),
        lambda: check([(b"Transfer-Encoding", b"gzip, chunked")]),
        lambda: check([(b"Transfer-Encoding", b"")]),
        lambda: check([(b"X", b"a\rb")]),
        lambda: check([(b"X", b"a\0")]),
        lambda: check([(b"X", b"\x7f")]),
        lambda: check([(b"X y", b"1")]),
        lambda: check([(b"", b"1")]),
    ],
)
def test_what_can_be_misread_is_an_upstream_protocol_error(check_bad: Callable[[], ResponseHead]) -> None:
    with pytest.raises(UpstreamProtocolError):
        check_bad()


def test_tab_and_high_bytes_in_values_pass() -> None:
    assert check([(b"X", b"a\tb\x80\xff")]).fields == [(b"X", b"a\tb\x80\xff")]


@pytest.mark.parametrize(
    "fields",
    [
        [(b"X", b"")] * 129,
        [(b"X", b"x" * 65_536)],
        [(b"x" * 65_536, b"")],
        [(b"X", b"x" * 1000)] * 66,
    ],
)
def test_oversized_head_is_refused(fields: Fields) -> None:
    with pytest.raises(ResponseHeadTooLarge):
        check(fields)


def test_head_at_the_limits_passes() -> None:
    assert len(check([(b"X", b"x" * 500)] * 128).fields) == 128


@pytest.mark.parametrize(
    ("reason", "safe"),
    [
        (b"Not Found", b"Not Found"),
        (b"caf\xe9\t!", b"caf\xe9\t!"),
        (b"", b""),
        (b"a\rb", b""),
        (b"a\x00", b""),
        (b"x" * 8192, b""),
    ],
)
def test_unsafe_reason_is_dropped(reason: bytes, safe: bytes) -> None:
    assert safe_reason(reason) == safe
