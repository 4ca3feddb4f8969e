"""What a fill asks for: the same for all whose requests have the same key."""

import asyncio
from typing import Any

import pytest

from proxy.config.model import RouteConfig
from proxy.config.policies import TimeoutConfig
from proxy.exchange import Exchange
from proxy.policies.caching.fill_request import fill_exchange, lend_trace
from proxy.protocol.fields import CACHING, CONDITION, DIRECTIVES
from proxy.protocol.forwarded import ClientAddress, Forwarding
from proxy.protocol.headers import RawHeaders
from proxy.protocol.request_checks import check_fields
from proxy.telemetry.events import Decision
from tests.support.exchange import make_exchange

ROUTE = RouteConfig(name="test", match=("* /*",), upstream="api", timeout=TimeoutConfig(total=2.0))


def fill_of(exchange: Exchange, **options: Any) -> Exchange:
    loop = asyncio.new_event_loop()
    try:
        return fill_exchange(exchange, now=50.0, loop=loop, **options)
    finally:
        loop.close()


def received(*fields: tuple[bytes, bytes], **options: Any) -> Exchange:
    """An exchange as the edge makes it."""
    exchange = make_exchange(headers=[("Host", "api.example")], route=ROUTE, **options)
    exchange.request.fields = check_fields([(b"Host", b"api.example"), *fields], (1, 1))
    exchange.client_ip = "198.51.100.7"
    exchange.request_id = "abc"
    return exchange


# --- fields ---


@pytest.mark.parametrize(
    "name",
    [
        b"If-None-Match",
        b"if-modified-since",
        b"If-Match",
        b"If-Unmodified-Since",
        b"If-Range",
        b"IF-SCHEDULE-TAG-MATCH",
        b"Range",
        b"RANGE",
        b"X-Original-URL",
        b"x-rewrite-url",
        b"X-HTTP-Method-Override",
        b"X-HTTP-Method",
        b"X-Method-Override",
        b"X_Original_URL",
        b"X_Http_Method_Override",
    ],
)
def test_what_selects_a_response_and_is_not_in_the_key_stays_here(name: bytes) -> None:
    exchange = received((b"Accept", b"*/*"), (name, b"x"), (b"Cookie", b"a=b"))

    fields = fill_of(exchange).request.fields

    assert fields.raw == [(b"Host", b"api.example"), (b"Accept", b"*/*"), (b"Cookie", b"a=b")]
    assert not fields.kinds & CONDITION
    assert name.lower() not in fields.lines(()).lower()


@pytest.mark.parametrize("name", [b"Accept", b"Range-Unit", b"X-Original", b"Ifs", b"X-HTTP", b"x" * 100, b"Pragma"])
def test_other_fields_go_on(name: bytes) -> None:
    exchange = received((name, b"x"))

    assert fill_of(exchange).request.fields is exchange.request.fields  # which remembers its lines


def test_conditions_of_ours_take_the_place_of_the_clients() -> None:
    exchange = received((b"If-None-Match", b'"theirs"'), (b"Cache-Control", b"max-age=0"))

    fields = fill_of(exchange, conditions=[(b"If-None-Match", b'"ours"')]).request.fields

    assert fields.raw == [
        (b"Host", b"api.example"),
        (b"Cache-Control", b"max-age=0"),
        (b"If-None-Match", b'"ours"'),
    ]
    assert fields.kinds & CACHING == CONDITION | DIRECTIVES
    assert fields.host == "api.example"


def test_private_fill_passes_the_clients_conditions_on_but_no_override() -> None:
    exchange = received((b"Range", b"bytes=0-1"), (b"X-Rewrite-URL", b"/admin"), (b"If-Range", b'"1"'))

    fields = fill_of(exchange, keeps_conditions=True).request.fields

    assert fields.raw == [(b"Host", b"api.example"), (b"Range", b"bytes=0-1"), (b"If-Range", b'"1"')]


def test_names_without_end_are_not_remembered_without_end() -> None:
    from proxy.policies.caching import fill_request

    for number in range(2000):
        fill_of(received((b"X-%d" % number, b""), (b"If-%d" % number, b"")))

    assert len(fill_request._ROLES) <= 1024
    assert fill_of(received((b"If-9999999", b""))).request.fields.raw == [(b"Host", b"api.example")]


def test_declared_empty_body_is_not_declared_upstream() -> None:
    fill = fill_of(received((b"Content-Length", b"0")))

    assert fill.request.body is None
    assert fill.request.fields.content_length is None


# --- what it asks for ---


def test_target_and_method_may_be_others() -> None:
    exchange = received(method="HEAD", target="/a?utm_source=x&b=1")
    exchange.params = {"id": "1"}

    plain = fill_of(exchange)
    changed = fill_of(exchange, target="/a?b=1", method="GET")

    assert (plain.request.method, plain.request.target) == ("HEAD", "/a?utm_source=x&b=1")
    assert (changed.request.method, changed.request.target) == ("GET", "/a?b=1")
    assert (changed.request.path, changed.request.query) == ("/a", "b=1")
    assert changed.params == {"id": "1"}


@pytest.mark.parametrize(
    ("authority", "scheme", "expected"),
    [
        ("API.Example", "http", "api.example"),
        ("api.example:80", "http", "api.example"),
        ("api.example:80", "https", "api.example:80"),
        ("api.example:443", "https", "api.example"),
        ("[::1]:8080", "http", "[::1]:8080"),
        ("", "http", ""),
    ],
)
def test_authority_is_that_of_the_key(authority: str, scheme: str, expected: str) -> None:
    exchange = received()
    exchange.request.authority = authority
    exchange.scheme = scheme

    assert fill_of(exchange).request.authority == expected


# --- where it came from ---


@pytest.mark.parametrize("is_trusted", [True, False])
def test_upstream_learns_of_the_target_only_what_is_in_the_key(is_trusted: bool) -> None:
    claimed = [
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Port", b"4444"),
        (b"X-Forwarded-Scheme", b"evil"),
        (b"X-Forwarded-Prefix", b"/evil"),
        (b"X-Forwarded-Host", b"evil.example"),
        (b"Forwarded", b"host=evil.example"),
    ]
    exchange = received(*claimed)
    exchange.request.authority = "Api.Example:80"
    networks = ClientAddress([_network("198.51.100.0/24")] if is_trusted else [])
    forwarding = Forwarding(networks, "198.51.100.7", "http")
    exchange.client_ip, exchange.scheme, forwarded = forwarding.identify("Api.Example:80", exchange.request.fields.raw)
    exchange.forwarded = (*forwarded, (b"Via", b"1.1 tidegate"))

    fill = fill_of(exchange)

    scheme, chain, client = (
        (b"https", b"203.0.113.9, 198.51.100.7", b"203.0.113.9")
        if is_trusted
        else (b"http", b"198.51.100.7", b"198.51.100.7")
    )
    authority = b"api.example:80" if is_trusted else b"api.example"  # 80 is not the port of https
    assert list(fill.forwarded) == [
        (b"X-Forwarded-For", chain),
        (b"X-Real-IP", client),
        (b"Via", b"1.1 tidegate"),
        (b"X-Forwarded-Proto", scheme),
        (b"X-Forwarded-Host", authority),
        (b"Forwarded", b'host="%b";proto=%b' % (authority, scheme)),
    ]
    assert b"evil" not in fill.request.fields.lines(fill.forwarded)
    assert fill_of(exchange).forwarded is fill.forwarded  # so that the lines are remembered


def test_without_an_authority_none_is_told() -> None:
    exchange = received()
    exchange.request.authority = ""
    exchange.forwarded = ((b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Host", b"evil.example"))

    assert list(fill_of(exchange).forwarded) == [(b"X-Forwarded-Proto", b"http"), (b"Forwarded", b"proto=http")]


def test_nothing_is_told_where_the_edge_tells_nothing() -> None:
    exchange = received()
    exchange.forwarded = [(b"Via", b"1.1 tidegate")]

    assert list(fill_of(exchange).forwarded) == [(b"Via", b"1.1 tidegate")]


def _network(text: str) -> Any:
    from ipaddress import ip_network

    return ip_network(text)


# --- limits ---


def test_it_has_the_routes_time_from_now_on() -> None:
    exchange = received()
    exchange.deadline = 10.0
    exchange.timeout = ROUTE.timeout

    fill = fill_of(exchange)

    assert (fill.started, fill.deadline) == (50.0, 52.0)
    assert fill.watchdog is not None
    assert fill.watchdog is not exchange.watchdog
    assert fill.route is ROUTE


def test_limits_that_are_in_shadow_do_not_bind_it() -> None:
    exchange = received()
    exchange.deadline = 10.0  # of a trusted caller
    exchange.timeout = TimeoutConfig(total=None, attempt=None, first_byte=None, idle=None)

    fill = fill_of(exchange)

    assert fill.deadline is None
    assert fill.timeout is exchange.timeout


def test_it_is_as_important_as_the_request_that_began_it() -> None:
    exchange = received()
    exchange.criticality = "critical"
    exchange.received_attempt = 2
    exchange.share = 0.25
    exchange.scheme = "https"

    fill = fill_of(exchange)

    assert (fill.criticality, fill.may_queue, fill.received_attempt) == ("critical", True, 2)
    assert (fill.request_id, fill.client_ip, fill.share, fill.scheme) == ("abc", "198.51.100.7", 0.25, "https")
    assert fill.store_seconds == 0.0


def test_in_the_background_it_is_least_important_and_waits_for_no_permit() -> None:
    exchange = received()
    exchange.criticality = "critical"
    exchange.received_attempt = 2

    fill = fill_of(exchange, is_background=True)

    assert (fill.criticality, fill.may_queue, fill.received_attempt) == ("background", False, 0)


# --- who hears of interim responses ---


class Listener:
    """A client that notes what it gets."""

    def __init__(self) -> None:
        self.heard: list[tuple[Exchange, int, RawHeaders]] = []

    def interim(self, exchange: Exchange, status: int, fields: RawHeaders) -> None:
        self.heard.append((exchange, status, fields))


def test_interim_responses_reach_the_client_as_those_of_its_own_exchange() -> None:
    exchange = received()
    exchange.client = listener = Listener()
    fill = fill_of(exchange)

    assert fill.client is not None
    fill.client.interim(fill, 103, [(b"Link", b"</a>"), (b"surrogate-Control", b"max-age=1")])

    assert listener.heard == [(exchange, 103, [(b"Link", b"</a>")])]


def test_interim_responses_reach_nobody_who_takes_none_any_more() -> None:
    exchange = received()
    exchange.client = listener = Listener()
    fill = fill_of(exchange)
    exchange.client = None

    assert fill.client is not None
    fill.client.interim(fill, 103, [])

    assert listener.heard == []


def test_nobody_hears_of_interim_responses_in_the_background() -> None:
    exchange = received()
    assert fill_of(exchange).client is None
    exchange.client = Listener()
    assert fill_of(exchange, is_background=True).client is None


# --- what it has met ---


def test_trace_is_lent_to_the_exchange_that_it_was_begun_for() -> None:
    exchange = received()
    exchange.decide(Decision("rate_limit", "admitted"))
    exchange.store_seconds = 0.5
    own = fill_of(exchange)
    own.attempt = 2
    own.upstream_name, own.upstream_endpoint = "api", "http://a"
    own.upstream_status, own.upstream_seconds = 503, 0.25
    own.store_seconds = 0.25
    own.decide(Decision("retry", "retried"))

    lend_trace(own, exchange)

    assert (exchange.attempt, exchange.upstream_name, exchange.upstream_endpoint) == (2, "api", "http://a")
    assert (exchange.upstream_status, exchange.upstream_seconds, exchange.store_seconds) == (503, 0.25, 0.75)
    assert [each.policy for each in exchange.decisions or ()] == ["rate_limit", "retry"]
