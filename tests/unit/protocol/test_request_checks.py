import pytest

from proxy.errors import (
    BadRequest,
    ExpectationFailed,
    HeadersTooLarge,
    MethodNotAllowed,
    MisdirectedRequest,
    NotImplementedHere,
    ProxyError,
    VersionNotSupported,
)
from proxy.protocol.fields import VIA
from proxy.protocol.request_checks import METHODS, Checked, check_authority, check_request, parse_authority

Fields = list[tuple[bytes, bytes]]
HOST = (b"Host", b"api.example:8080")


def check(
    fields: Fields | None = None, method: str = "GET", target: str = "/", version: tuple[int, int] = (1, 1)
) -> Checked:
    return check_request(method, target, version, [HOST] if fields is None else fields, max_head=32 * 1024)


def with_host(*fields: tuple[bytes, bytes]) -> Fields:
    return [HOST, *fields]


def test_what_the_edge_needs_comes_back() -> None:
    fields = with_host((b"Content-Length", b"12"), (b"Expect", b"100-Continue"), (b"Via", b"1.1 x"))

    checked = check(fields, "POST", "/a?b=c")

    assert (checked.target, checked.host, checked.fields.content_length) == ("/a?b=c", "api.example:8080", 12)
    assert (checked.chunked, checked.expect_continue) == (False, True)
    assert checked.fields.kinds & VIA


def test_request_without_body_has_no_length() -> None:
    checked = check()

    assert (checked.fields.content_length, checked.chunked, checked.expect_continue) == (None, False, False)
    assert not checked.fields.kinds & VIA


# --- version and method ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(0, 9), (1, 2), (2, 0), (3, 0)])
def test_other_versions_are_refused(version: tuple[int, int]) -> None:
    with pytest.raises(VersionNotSupported):
        check(version=version)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_known_methods_pass(method: str) -> None:
    check(method=method)


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_connect_and_trace_are_never_allowed(method: str) -> None:
    with pytest.raises(MethodNotAllowed) as raised:
        check(method=method)

    assert raised.value.allow == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


@pytest.mark.parametrize("method", ["get", "PROPFIND", "PURGE", "M-SEARCH"])
def test_unknown_methods_are_not_implemented(method: str) -> None:
    with pytest.raises(NotImplementedHere):
        check(method=method)


@pytest.mark.parametrize("method", ["G ET", "GET\0", "GÉT", "A(B"])
def test_method_that_is_no_token_is_malformed(method: str) -> None:
    with pytest.raises(BadRequest):
        check(method=method)


# --- target ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        *("/", "//evil/x", "/a%2fb", "/?x=%2F&y=a+b&z=%zz", "/x?", "/a;b", "/\\evil", "/%0d%0a", "/a?b?c"),
        *("/café", "/caf\udce9", "/" + "a" * 8000),
    ],
)
def test_origin_form_passes_as_it_is(target: str) -> None:
    assert check(target=target).target == target


@pytest.mark.parametrize(
    "target",
    [
        *("/a b", "/a#b", "/a\rb", "/a\0", "/\x7f", "/é b", "/é#"),
        *("", "a", "@evil/", ":80@evil/", "http:/evil", "ftp://evil/x", "*", "?x", "\\admin", "evil:443"),
        *("http://", "http:///x", "http://user@evil/", "http://a,b/", "http://é/", "http://a:99999/"),
    ],
)
def test_other_targets_are_malformed(target: str) -> None:
    with pytest.raises(BadRequest):
        check(target=target)


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        ("http://other.example/a?b", "/a?b", "other.example"),
        ("HTTPS://other.example:1/a", "/a", "other.example:1"),
        ("http://other.example", "/", "other.example"),
        ("http://other.example?b", "/?b", "other.example"),
        ("http://[::1]:80//x", "//x", "[::1]:80"),
    ],
)
def test_absolute_form_becomes_a_path_and_overrules_host(target: str, path: str, host: str) -> None:
    checked = check(target=target)

    assert (checked.target, checked.host) == (path, host)


def test_absolute_form_still_needs_host() -> None:
    with pytest.raises(BadRequest):
        check([], target="http://other.example/")


@pytest.mark.parametrize(("target", "host"), [("*", "api.example:8080"), ("http://other.example", "other.example")])
def test_options_about_the_proxy_itself(target: str, host: str) -> None:
    checked = check(method="OPTIONS", target=target)

    assert (checked.target, checked.host) == ("*", host)


def test_options_about_a_path_is_no_question_to_the_proxy() -> None:
    assert check(method="OPTIONS", target="http://other.example/").target == "/"


# --- Host -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [b"a", b"a.example.", b"A_b-c~.example:0", b"127.0.0.1:65535", b"[::1]", b"[::ffff:1.2.3.4]:80"]
)
def test_valid_host_passes(value: bytes) -> None:
    assert check([(b"Host", value)]).host == value.decode()


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"a/b", b"a@b", b"a,b", b"a b", b"a:99999", b"a:", b"a:8x", b":80", b"a:-1", b"a:1:2", b"a?b", b"a#b"),
        *(
            b"a\\b",
            b"a%41",
            b"[::1",
            b"[1]",
            b"[1:2]",
            b"[::1]x",
            b"[fe80::1%25eth0]",
            b"[v1.a]",
            b"caf\xe9",
            b"a" * 256,
            b"::1",
        ),
        *("a:\uff11".encode(), b"a:80\n"),
    ],
)
def test_malformed_host_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest):
        check([(b"Host", value)])


@pytest.mark.parametrize("fields", [[], [HOST, HOST], [HOST, (b"hOST", b"b")]])
def test_host_is_sent_exactly_once(fields: Fields) -> None:
    with pytest.raises(BadRequest):
        check(fields)


def test_http_1_0_may_do_without_host() -> None:
    assert check([], version=(1, 0)).host == ""


def test_refusals_of_hosts_are_not_remembered() -> None:
    size = parse_authority.cache_info().currsize

    for number in range(10):
        with pytest.raises(BadRequest):
            parse_authority(b"@%d" % number)

    assert parse_authority.cache_info().currsize == size


# --- framing and Expect ---------------------------------------------------------------------------------------------


def test_chunked_request_has_no_length() -> None:
    checked = check(with_host((b"transfer-encoding", b"CHUNKED")), "POST")

    assert (checked.chunked, checked.fields.content_length) == (True, None)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        *[(value, BadRequest) for value in (b"", b"identity", b"xchunked", b"chunked, identity", b"chunked,chunked")],
        *[(value, BadRequest) for value in (b"chunked;p", b"\x0bchunked", b"chunked,", b",chunked", b"g zip, chunked")],
        (b"gzip, chunked", NotImplementedHere),
        (b"deflate,gzip,\tChunked", NotImplementedHere),
    ],
)
def test_any_other_transfer_coding_is_refused(value: bytes, error: type[ProxyError]) -> None:
    with pytest.raises(error):
        check(with_host((b"Transfer-Encoding", value)), "POST")


@pytest.mark.parametrize(
    "fields",
    [
        [(b"Content-Length", b"1"), (b"Content-Length", b"1")],
        [(b"Content-Length", b"1"), (b"content-length", b"2")],
        [(b"Content-Length", b"1, 1")],
        [(b"Content-Length", b"+1")],
        [(b"Content-Length", b"007")],
        [(b"Content-Length", b"")],
        [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"1")],
        [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")],
    ],
)
def test_ambiguous_framing_is_refused(fields: Fields) -> None:
    with pytest.raises(BadRequest):
        check(with_host(*fields), "POST")


def test_transfer_encoding_is_refused_in_http_1_0() -> None:
    with pytest.raises(BadRequest):
        check(with_host((b"Transfer-Encoding", b"chunked")), "POST", version=(1, 0))


@pytest.mark.parametrize("values", [[b"y 100-continue"], [b"100-continue, x"], [b""], [b"100-continue"] * 2])
def test_any_other_expectation_fails(values: list[bytes]) -> None:
    with pytest.raises(ExpectationFailed):
        check(with_host(*[(b"Expect", value) for value in values]))


@pytest.mark.parametrize("value", [b"100-continue", b"anything"])
def test_expectation_is_ignored_in_http_1_0(value: bytes) -> None:
    assert not check(with_host((b"Expect", value)), version=(1, 0)).expect_continue


# --- names, values, size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\xe9", b"a\0"])
def test_field_name_must_be_a_token(name: bytes) -> None:
    with pytest.raises(BadRequest):
        check(with_host((name, b"1")))


@pytest.mark.parametrize(
    "name", [b"Content_Length", b"Transfer_encoding", b"X_Forwarded_For", b"x-request_deadline_ms"]
)
def test_underscore_twin_of_a_field_that_matters_is_refused(name: bytes) -> None:
    with pytest.raises(BadRequest):
        check(with_host((name, b"1")))


@pytest.mark.parametrize("pair", [(b"X-User", b"x_user"), (b"a_b-c", b"a-b_c")])
def test_two_names_that_differ_in_underscores_are_refused(pair: tuple[bytes, bytes]) -> None:
    with pytest.raises(BadRequest):
        check(with_host(*[(name, b"1") for name in pair]))


def test_other_names_with_underscore_pass() -> None:
    check(with_host((b"api_key", b"1"), (b"API_KEY", b"2"), (b"_host", b"3")))


@pytest.mark.parametrize("value", [b"a\0b", b"a\rb", b"a\nb", b"\x0b", b"\x1f", b"\x7f"])
def test_control_byte_in_a_value_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest):
        check(with_host((b"X", value)))


def test_tab_and_high_bytes_in_a_value_pass() -> None:
    check(with_host((b"X", b"\ta\x80\xff")))


def test_129_fields_are_too_many() -> None:
    check([HOST, *[(b"X", b"")] * 127])
    with pytest.raises(HeadersTooLarge):
        check([HOST, *[(b"X", b"")] * 128])


def test_head_is_limited_as_a_whole() -> None:
    fields = [(b"Host", b"h"), *[(b"X", b"x" * 95)] * 10]
    size = len("GET /") + 4 + 1 + 4 + 10 * 100

    check_request("GET", "/1", (1, 1), fields, max_head=size)
    with pytest.raises(HeadersTooLarge):
        check_request("GET", "/1", (1, 1), fields, max_head=size - 1)
    with pytest.raises(HeadersTooLarge):
        check_request("GET", "/12", (1, 1), fields, max_head=size)


# --- server.hosts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["api.example", "API.example", "api.example.", "api.example:99", "[::1]:80", "[::1]"])
def test_allowed_authority_passes(host: str) -> None:
    check_authority(host, frozenset({"api.example", "[::1]"}))


def test_allowed_authority_may_name_its_port() -> None:
    check_authority("api.example:8080", frozenset({"api.example:8080"}))
    with pytest.raises(MisdirectedRequest):
        check_authority("api.example:8081", frozenset({"api.example:8080"}))


@pytest.mark.parametrize("host", ["", "other.example", "api.example.evil", "xapi.example", "[::2]"])
def test_foreign_authority_is_misdirected(host: str) -> None:
    with pytest.raises(MisdirectedRequest):
        check_authority(host, frozenset({"api.example", "[::1]"}))


def test_without_hosts_any_authority_passes() -> None:
    check_authority("whatever", frozenset())
