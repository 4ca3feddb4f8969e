"""Faults B01 to B06: whatever the target says, the request goes to its route's upstream, and to the path it names."""

import pytest

from tests.support.edge import MARK, check_problem, request, running_edge
from tests.support.upstream import ScriptedUpstream

ROUTES = [
    {"name": "admin", "match": "* /admin/*", "headers": {"request": {"set": {"X-Route": "admin"}}}},
    {"name": "me", "match": "GET /me", "headers": {"request": {"set": {"X-Route": "me"}}}},
    {"name": "rest", "match": "* /*", "headers": {"request": {"set": {"X-Route": "rest"}}}},
]


# --- B01: absolute form ---


@pytest.mark.both_loops
@pytest.mark.parametrize("scheme", ["http", "HTTP", "https"])
async def test_b01_absolute_target_goes_to_the_upstream_as_a_path(scheme: str) -> None:
    async with ScriptedUpstream() as evil, running_edge() as edge:
        authority = f"127.0.0.1:{evil.port}"
        received = await edge.passes(request(method="GET", target=f"{scheme}://{authority}/zq7?a=b"))

    assert (received.target, received.header("Host")) == ("/zq7?a=b", authority)
    assert evil.wires == []


@pytest.mark.parametrize(
    ("target", "sent"), [("http://169.254.169.254", "/"), ("http://evil?a", "/?a"), ("http://[::1]:80/x", "/x")]
)
async def test_b01_absolute_target_without_a_path_gets_one(target: str, sent: str) -> None:
    async with running_edge() as edge:
        assert (await edge.passes(request(method="GET", target=target))).target == sent


@pytest.mark.parametrize(
    "target",
    [
        *("ftp://zq7/", "file:///zq7", "http://", "http:///zq7", "http:zq7", "http://zq7@evil/", "http://a,zq7/"),
        *("http://zq7:99999/", "http://[zq7]/", "http://zq7%2fevil/", "http://zq7\\evil/", "gopher://zq7/"),
    ],
)
async def test_b01_absolute_target_of_another_kind_is_refused(target: str) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(method="GET", target=target), 400)


async def test_b01_authority_of_an_absolute_target_is_the_one_that_must_be_served() -> None:
    async with running_edge(server={"hosts": ["api.example", "localhost"]}) as edge:
        await edge.refuses_but_goes_on(request(method="GET", target="http://evil.example/zq7"), 421)
        await edge.passes(request(method="GET", target="http://API.example:8080/zq7"))


async def test_b01_absolute_target_takes_its_route_by_its_path() -> None:
    async with running_edge(routes=ROUTES) as edge:
        received = await edge.passes(request(method="GET", target="http://evil/admin/x"))

    assert received.header("X-Route") == "admin"


# --- B02: paths that some URL library would take for a host ---


@pytest.mark.parametrize("target", ["//evil/x", "/\\evil", "/@evil/", "/http://evil/", "///evil", "/:80@evil/"])
async def test_b02_path_that_looks_like_a_host_stays_a_path(target: str) -> None:
    async with running_edge() as edge:
        received = await edge.passes(request(method="GET", target=target))

    assert (received.target, received.header("Host")) == (target, "api.example")


@pytest.mark.parametrize("target", ["@zq7/", ":80@zq7/", "http:/zq7", "zq7", "zq7:80", "\\\\zq7", "?zq7", "*zq7"])
async def test_b02_target_that_is_no_path_is_refused(target: str) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(method="GET", target=target), 400)


# --- B03: methods ---


@pytest.mark.parametrize("raw", [request(method="CONNECT", target="evil:443"), request(method="TRACE")])
async def test_b03_connect_and_trace_are_refused(raw: bytes) -> None:
    async with running_edge() as edge:
        response = await edge.refuses(raw, 405)

    assert response.header("Allow") == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


async def test_b03_bytes_behind_connect_are_no_request() -> None:
    async with running_edge() as edge:
        await edge.refuses(request(b"Content-Length: 3\r\n", MARK, method="CONNECT", target="evil:443"), 405)


@pytest.mark.parametrize("method", ["get", "FOO", "PURGE", "PROPFIND", "GETX", "QUERY", "M-SEARCH", "pOsT"])
async def test_b03_unknown_methods_are_not_implemented(method: str) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(method=method), 501)


@pytest.mark.parametrize("method", ["G\xe9T", "G(T", "G\x00T", "X" * 100])
async def test_b03_method_that_is_none_is_malformed(method: str) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(method=method), 400)


@pytest.mark.parametrize("target", ["*", "http://api.example"])
async def test_b03_question_about_the_server_is_answered_here(target: str) -> None:
    async with running_edge() as edge, edge.client() as client:
        answer = await client.request("OPTIONS", target)
        assert (await client.request("GET", "/second")).status == 200

    assert (answer.status, answer.header("Server")) == (204, None)
    assert [each.target for each in edge.upstream.requests] == ["/second"]


async def test_b03_asterisk_is_for_options_alone() -> None:
    async with running_edge() as edge:
        await edge.refuses(request(method="GET", target="*"), 400)


# --- B04: Host ---


@pytest.mark.parametrize(
    "fields",
    [
        *(b"", b"Host: zq7\r\nHost: zq7\r\n", b"Host: zq7\r\nhost: other\r\n", b"Host:\r\n", b"Host: zq7/b\r\n"),
        *(b"Host: a@zq7\r\n", b"Host: a,zq7\r\n", b"Host: a zq7\r\n", b"Host: zq7:99999\r\n", b"Host: zq7:\r\n"),
        *(b"Host: zq7:1:2\r\n", b"Host: [::zq7]\r\n", b"Host: [::1\r\n", b"Host: zq7\x80\r\n", b"Host: zq7%00\r\n"),
        *(b"Host: http://zq7\r\n", b"Host: zq7#\r\n", b"Host: zq7?\r\n", b"Host: zq7\\\r\n", b"Host : zq7\r\n"),
    ],
)
async def test_b04_host_that_is_no_authority_is_refused(fields: bytes) -> None:
    async with running_edge() as edge:
        await edge.refuses(b"GET /zq7 HTTP/1.1\r\n" + fields + b"\r\n", 400)


# --- B05: one path, several readings ---

AMBIGUOUS = [
    *("//admin", "/./admin", "/x/../admin", "/%61dmin", "/admin%2f", "/a%2f..%2fadmin", "/admin;x", "/admin;x/y"),
    *("/\\admin", "/%5cadmin", "/admin%5cx", "/x/..;/admin", "/admin/../x", "/x/%2e%2e/admin", "/%2e/admin"),
    *("/adm%69n", "/x/../../admin", "/x//..//admin", "/;/admin", "/admin%2F..", "/me;x.js", "/%6De"),
    "http://h//admin",
]


@pytest.mark.parametrize("target", AMBIGUOUS)
async def test_b05_path_that_servers_read_as_different_routes_is_refused(target: str) -> None:
    async with running_edge(routes=ROUTES) as edge, edge.client() as client:
        response = await client.request("GET", target)

    check_problem(response, 400)
    assert edge.upstream.requests == []


@pytest.mark.parametrize("target", ["/admin%00", "\\admin", "%5cadmin", "/admin%0d%0a", "/admin%7f", "/admin%2", "/%"])
async def test_b05_path_that_nobody_should_send_is_refused(target: str) -> None:
    async with running_edge(routes=ROUTES) as edge:
        await edge.refuses(request(method="GET", target=target), 400)


@pytest.mark.parametrize(
    ("target", "route"),
    [
        *(("/admin", "admin"), ("/admin/", "admin"), ("/admin?x=/../", "admin"), ("/admin/%61", "admin")),
        *(
            ("/admin/a;b//c", "admin"),
            ("/ADMIN", "rest"),
            ("/admin.", "rest"),
            ("/%2561dmin", "rest"),
            ("/me/", "rest"),
        ),
        *(("/a%2fb", "rest"), ("/a//b;c/../d", "rest"), ("/admin%20", "rest"), ("/xadmin", "rest")),
    ],
)
async def test_b05_policy_and_upstream_see_the_same_path(target: str, route: str) -> None:
    async with running_edge(routes=ROUTES) as edge:
        received = await edge.passes(request(method="GET", target=target))

    assert (received.target, received.header("X-Route")) == (target, route)


# --- B06: bytes ---


@pytest.mark.both_loops
@pytest.mark.parametrize(
    "target",
    [
        *("/a%2fb", "/a%2Fb", "/a?x=%2F&y=a+b&z=%zz", "/a?%0d%0a%00", "/a?", "/a??", "/a;", "/a;b=c?d;e", "/a'b(c)!*,"),
        *("/%E2%82%AC", "/%ff%FE", "/a%20b", "/~a", "/%7Ea", '/a?"<>[]{}|^`', "/a?x=//../..", "/" + "a" * 8000),
    ],
)
async def test_b06_target_arrives_byte_for_byte(target: str) -> None:
    async with running_edge() as edge:
        assert (await edge.passes(request(method="GET", target=target))).target == target


@pytest.mark.parametrize(
    "target", ["/zq7#a", "/zq7?a#b", "/zq7\x7f", "/zq7\udcff", "/zq7?\udce9", "/zq7?é", "/zq7\x01"]
)
async def test_b06_bytes_that_must_be_encoded_are_refused(target: str) -> None:
    async with running_edge() as edge:
        await edge.refuses(request(method="GET", target=target), 400)
