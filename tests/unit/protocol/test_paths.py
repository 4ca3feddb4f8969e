import pytest

from proxy.errors import BadRequest
from proxy.protocol.paths import has_dot_segment, is_plain, normalised, readings


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/a", "/a/b/", "/a.b/c..d", "/~x/!$&'()*+,=:@-_", "/.well-known/x", "/..a/.b", "/...", "/a/...b"),
        *("/a%20b", "/caf%C3%A9", "/100%25", "/a%252fb", "/%3F%23"),
    ],
)
def test_plain_path_has_one_reading(path: str) -> None:
    assert is_plain(path)
    assert readings(path) == [path]
    assert normalised(path) == path


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("//admin", "/admin"),
        ("/a///b//", "/a/b/"),
        ("/./admin", "/admin"),
        ("/x/../admin", "/admin"),
        ("/../../admin", "/admin"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/%61dmin", "/admin"),
        ("/%7Euser", "/~user"),
        ("/%40me", "/@me"),
        ("/admin%2f", "/admin/"),
        ("/admin%2Fx", "/admin/x"),
        ("/a%2f..%2fadmin", "/admin"),
        ("/%2e%2E/admin", "/admin"),
        ("/admin;x", "/admin"),
        ("/admin;x=1/y;z", "/admin/y"),
        ("/x/..;/admin", "/admin"),
        ("/admin%3bx", "/admin"),
        ("/\\admin", "/admin"),
        ("/a\\..\\admin", "/admin"),
        ("/%5cadmin", "/admin"),
        ("/a%5C..%5Cadmin", "/admin"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/café", "/caf%C3%A9"),
        ("/caf\udce9", "/caf%E9"),
        ('/a"b', "/a%22b"),
        ("/%4\u0031", "/A"),
    ],
)
def test_odd_path_is_read_as_it_is_and_normalised(path: str, read: str) -> None:
    found = readings(path)

    assert not is_plain(path)
    assert found[0] == path
    assert read in found
    assert normalised(path) == read


def test_double_encoding_is_decoded_once() -> None:
    assert readings("/%2561%61") == ["/%2561%61", "/%2561a"]


def test_steps_that_a_server_may_leave_out_are_left_out_too() -> None:
    found = readings("/public/%2e%2e/admin/x%2f..%2f..%2f..%2fpublic")

    assert "/public" in found
    assert "/admin/x%2F..%2F..%2F..%2Fpublic" in found


@pytest.mark.parametrize(
    "path", ["/%00", "/a%0d%0ab", "/%1F", "/%7f", "/a\0", "/\x1f", "/%", "/%4", "/%zz", "/%%41", "/%u0041"]
)
def test_control_bytes_and_malformed_escapes_are_refused(path: str) -> None:
    assert not is_plain(path)
    with pytest.raises(BadRequest):
        readings(path)


def test_work_on_an_odd_path_is_bounded() -> None:
    with pytest.raises(BadRequest):
        readings("/" + "a;b\\..//" * 1000)

    assert len(readings("/" + "%41;a\\..\\b//" * 40)) <= 64
    assert len(readings("/" + "a%2Fb" * 100)) == 2


@pytest.mark.parametrize("path", ["/..", "/a/./b", "/%2e%2e/x", "/a%2f..%2fb", "/a\\..", "/..;/x", "/%5c%2E"])
def test_dot_segments_are_seen_in_every_spelling(path: str) -> None:
    assert has_dot_segment(path)


@pytest.mark.parametrize("path", ["/", "/a..b", "/...", "/%252e%252e/x", "/;.."])
def test_dots_in_names_are_no_dot_segments(path: str) -> None:
    assert not has_dot_segment(path)
