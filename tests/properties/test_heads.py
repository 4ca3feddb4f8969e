"""Heads of any content are passed or refused, never anything else, and what is passed has one meaning."""

from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import ClientError, UpstreamError
from proxy.protocol.fields import TOKEN_BYTES
from proxy.protocol.framing import Framing
from proxy.protocol.headers import end_to_end
from proxy.protocol.request_checks import check_request
from proxy.protocol.response_checks import check_response

NAMES = st.one_of(
    st.sampled_from([b"Host", b"content-length", b"Transfer-Encoding", b"Connection", b"Expect", b"X_A", b"X-A"]),
    st.sampled_from([b"traceparent", b"tracestate", b"Upgrade", b"Content_Length", b"X-Forwarded-For"]),
    st.binary(max_size=80),
)
VALUES = st.one_of(
    st.sampled_from([b"h", b"0", b"5", b"chunked", b"close", b"keep-alive, X-A", b"100-continue", b"gzip, chunked"]),
    st.binary(max_size=40),
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
TARGETS = st.one_of(st.sampled_from(["/", "*", "http://h/x", "//h"]), st.text(max_size=30))


@given(st.sampled_from(["GET", "OPTIONS", "get", "TRACE"]), TARGETS, st.sampled_from([(1, 0), (1, 1), (2, 0)]), FIELDS)
@example("OPTIONS", "http://h", (1, 1), [(b"Host", b"h")])
def test_request_head_is_passed_or_refused(
    method: str, target: str, version: tuple[int, int], fields: list[tuple[bytes, bytes]]
) -> None:
    try:
        checked = check_request(method, target, version, fields, max_head=1000)
    except ClientError:
        return

    assert checked.target == "*" or checked.target[:1] == "/"
    assert not (checked.chunked and checked.fields.content_length is not None)
    assert all(name and not name.translate(None, TOKEN_BYTES) for name, _ in fields)
    assert not any(byte < 32 and byte != 9 for _, value in fields for byte in value)


@given(
    st.integers(-1, 1000), st.sampled_from(["1.0", "1.1", "2"]), FIELDS, st.sampled_from(["GET", "HEAD"]), st.booleans()
)
def test_response_head_is_passed_or_refused(
    status: int, version: str, fields: list[tuple[bytes, bytes]], method: str, upgrade: bool
) -> None:
    try:
        head = check_response(status, version, fields, method, upgrade=upgrade)
    except UpstreamError:
        return

    assert (head.length is not None) is (head.framing is Framing.LENGTH)
    assert (head.framing is Framing.TUNNEL) is (status == 101)
    if head.framing in (Framing.CLOSE, Framing.TUNNEL):
        assert not head.keep_alive


@given(FIELDS)
def test_what_goes_on_came_in_that_order(fields: list[tuple[bytes, bytes]]) -> None:
    left = iter(fields)

    assert all(field in left for field in end_to_end(fields))
