import pytest

from proxy.protocol.headers import end_to_end, header_editor, seen_loop, via_received


def test_ordinary_fields_pass_in_spelling_and_order() -> None:
    fields = [(b"x-A", b"1"), (b"X-a", b"2"), (b"Cookie", b"a"), (b"Cookie", b"b"), (b"x-bytes", b"caf\xe9")]

    assert end_to_end(fields) == fields


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade"),
        *(b"Proxy-Authorization", b"Proxy-Authenticate", b"HTTP2-Settings", b"Expect"),
        *(b"Host", b"Content-Length"),
        *(b"X-Forwarded-For", b"x-forwarded-host", b"X-Forwarded-Anything", b"Forwarded", b"X-Real-IP"),
        *(b"X-Request-Deadline-Ms", b"x-request-attempt", b"X-REQUEST-ID", b"x-Request-criticality"),
    ],
)
def test_fields_of_this_hop_and_of_the_proxy_stay_behind(name: bytes) -> None:
    assert end_to_end([(name, b"x"), (b"Accept", b"*/*")]) == [(b"Accept", b"*/*")]


def test_fields_that_connection_names_stay_behind() -> None:
    fields = [
        (b"Connection", b"close, X-User-Id,\tAuthorization"),
        (b"X-User-Id", b"7"),
        (b"authorization", b"Basic x"),
        (b"X-Other", b"1"),
        (b"connection", b"x-third"),
        (b"X-Third", b"3"),
    ]

    assert end_to_end(fields) == [(b"X-Other", b"1")]


def test_plain_connection_options_take_nothing_away() -> None:
    fields = [(b"Connection", b"Keep-Alive"), (b"X-Other", b"1")]

    assert end_to_end(fields) == [(b"X-Other", b"1")]


def test_malformed_trace_context_stays_behind() -> None:
    fields = [(b"traceparent", b"nonsense"), (b"tracestate", b"a=1"), (b"X-Other", b"1")]

    assert end_to_end(fields) == [(b"X-Other", b"1")]


def test_via_names_version_and_proxy() -> None:
    assert via_received((1, 0), b"tidegate-1f") == b"1.0 tidegate-1f"
    assert via_received((1, 1), b"tidegate-1f") == b"1.1 tidegate-1f"


@pytest.mark.parametrize(
    ("values", "loop"),
    [
        ([b"1.1 tidegate-1f"], True),
        ([b"1.1 other", b"1.0 a, 1.1 tidegate-1f (comment), 1.1 b"], True),
        ([b"1.1 tidegate-2e"], False),
        ([b"1.1 x-tidegate-1f"], False),
        ([b"tidegate-1f"], False),
        ([b""], False),
    ],
)
def test_loop_is_our_own_name_in_via(values: list[bytes], loop: bool) -> None:
    fields = [(b"X", b"1.1 tidegate-1f"), *[(b"vIa", value) for value in values]]

    assert seen_loop(fields, b"tidegate-1f") is loop


def test_no_edit_needs_no_editor() -> None:
    assert header_editor({}, ()) is None


def test_editor_replaces_every_field_of_a_name_and_removes() -> None:
    editor = header_editor({"X-Tenant": "blåhaj"}, ["X-Debug"])
    assert editor is not None

    fields = [(b"x-tenant", b"1"), (b"X-Keep", b"2"), (b"X-TENANT", b"3"), (b"x-debug", b"4")]

    assert editor.apply(fields) == [(b"X-Keep", b"2"), (b"X-Tenant", "blåhaj".encode())]


def test_editor_leaves_no_underscore_twin() -> None:
    editor = header_editor({"X-User-Id": "7"}, ())
    assert editor is not None

    assert editor.apply([(b"X_User_Id", b"1")]) == [(b"X-User-Id", b"7")]
