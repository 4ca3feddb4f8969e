"""What a fallback may send from the cache, and what that says about itself."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.config.policies import FallbackConfig
from proxy.errors import BreakerOpen, BulkheadFull, ConnectionRefused, DeadlineExceeded, ProxyError, UpstreamTimeout
from proxy.exchange import Exchange, Response
from proxy.policies.caching.steps import LastKnownGood, Stale
from proxy.policies.fallback import Fallback
from proxy.policies.fallback_steps import build_steps
from proxy.protocol.caching.stored import Part
from proxy.protocol.request_checks import check_fields
from proxy.telemetry.instruments import RouteMetrics
from tests.support.exchange import ScriptedHandler, make_exchange
from tests.support.stored import BORN, make_stored

AGE = 1000
OPEN = BreakerOpen(request_written=False)


def no_upstreams(name: str) -> Any:
    raise KeyError(name)


def layer(failure: ProxyError | Response, *steps: str) -> Fallback:
    config = FallbackConfig.model_validate({"steps": tuple({step: True} for step in steps)})
    built = build_steps(config, no_upstreams, wall=lambda: BORN + AGE)
    return Fallback(ScriptedHandler(failure), config, built, RouteMetrics("test"), mode="enforce")


def with_stored(kind: str, exchange: Exchange, **terms: Any) -> Exchange:
    stored = make_stored(b"0123456789", {"Cache-Control": "max-age=60", "X-Own": "yes"}, etag=b'"1"')
    stored.terms = replace(stored.terms, **terms)
    setattr(exchange, {"stale": "stored", "last_known_good": "last_good"}[kind], stored)
    return exchange


def field(response: Response, name: bytes) -> bytes | None:
    values = [value for each, value in response.headers if each.lower() == name]
    assert len(values) < 2, values
    return values[0] if values else None


KINDS = pytest.mark.parametrize("kind", ["stale", "last_known_good"])


@KINDS
async def test_stored_response_stands_in_and_says_how_old_it_is(kind: str) -> None:
    exchange = with_stored(kind, make_exchange())

    response = await layer(OPEN, kind).handle(exchange)

    assert (response.status, response.body) == (200, b"0123456789")
    assert field(response, b"age") == b"1000"
    assert field(response, b"x-own") == b"yes"
    assert field(response, b"x-degraded") == kind.encode()
    assert field(response, b"cache-control") == b"no-store", "nobody keeps it as if it were fresh"
    assert [(each.policy, each.decision) for each in exchange.decisions or ()] == [("fallback", kind)]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (OPEN, b'tidegate;hit;ttl=-940;detail="stale"'),
        (BulkheadFull(request_written=False), b'tidegate;hit;ttl=-940;detail="stale"'),
        (ConnectionRefused(), b'tidegate;fwd=stale;detail="stale"'),
        (UpstreamTimeout("total"), b'tidegate;fwd=stale;detail="stale"'),
        (DeadlineExceeded(), b'tidegate;fwd=stale;detail="stale"'),
        (Response(503, [], b"down"), b'tidegate;fwd=stale;fwd-status=503;detail="stale"'),
    ],
)
async def test_cache_status_says_whether_the_upstream_was_asked(failure: Any, status: bytes) -> None:
    response = await layer(failure, "stale").handle(with_stored("stale", make_exchange()))

    assert field(response, b"cache-status") == status


@KINDS
@pytest.mark.parametrize("forbids", ["forbids_stale", "always_validates"])
async def test_what_must_be_validated_never_stands_in(kind: str, forbids: str) -> None:
    exchange = with_stored(kind, make_exchange(), **{forbids: True})

    with pytest.raises(BreakerOpen):
        await layer(OPEN, kind).handle(exchange)


@KINDS
async def test_without_anything_stored_the_next_step_has_its_turn(kind: str) -> None:
    other = {"stale": "last_known_good", "last_known_good": "stale"}[kind]
    exchange = with_stored(other, make_exchange())

    response = await layer(OPEN, kind, other).handle(exchange)

    assert field(response, b"x-degraded") == other.encode()


async def test_conditions_and_ranges_are_answered_from_it() -> None:
    def asked(name: str, value: str) -> Exchange:
        exchange = make_exchange(headers={name: value, "Host": "api.test"})
        exchange.request.fields = check_fields(exchange.request.fields.raw, (1, 1))
        return with_stored("stale", exchange)

    unchanged = await layer(OPEN, "stale").handle(asked("If-None-Match", '"1"'))
    part = await layer(OPEN, "stale").handle(asked("Range", "bytes=2-3"))

    assert (unchanged.status, unchanged.body) == (304, b"")
    assert (part.status, part.body, field(part, b"content-range")) == (206, b"23", b"bytes 2-3/10")


async def test_part_that_is_stored_answers_nothing_else() -> None:
    exchange = make_exchange()
    exchange.stored = make_stored(b"01", part=Part(0, 10))

    with pytest.raises(BreakerOpen):
        await layer(OPEN, "stale").handle(exchange)


@pytest.mark.parametrize("step", [Stale, LastKnownGood])
def test_shadow_asks_whether_it_would_be_possible(step: Any) -> None:
    possible = step(lambda: BORN)

    assert not possible.is_possible(make_exchange())
    assert possible.is_possible(with_stored(possible.kind, make_exchange()))
    assert not possible.is_possible(with_stored(possible.kind, make_exchange(), forbids_stale=True))
    assert not possible.is_own
    assert repr(possible) == f"<{step.__name__}>"
