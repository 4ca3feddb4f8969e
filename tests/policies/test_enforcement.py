"""For whom a policy acts: the same clients always, a different share of them on each route."""

from collections.abc import Iterable

import pytest

from proxy.config.model import RouteConfig
from proxy.config.policies import BulkheadConfig, RateLimitConfig
from proxy.config.policy_types import ClientKey, Mode, Rate
from proxy.exchange import Exchange, Handler, Response
from proxy.policies.enforcement import ClientPlace, EnforcedShare, moded
from tests.support.exchange import ScriptedHandler, make_exchange

CLIENTS = [f"10.{number // 250}.{number % 250}.7" for number in range(10_000)]


def route_of(name: str = "search", *keys: str) -> RouteConfig:
    """A route; with keys, its first rate limit counts by them."""
    limits: tuple[RateLimitConfig, ...] = ()
    if keys:
        first = RateLimitConfig(rate=Rate(20, 60.0), key=tuple(map(ClientKey.parse, keys)))
        limits = (first, RateLimitConfig(rate=Rate(1, 1.0)))
    return RouteConfig(name=name, match=("* /*",), upstream="api", rate_limit=limits)


def exchange_of(client_ip: str, route: RouteConfig | None = None, **headers: str) -> Exchange:
    exchange = make_exchange(headers=headers, route=route)
    exchange.client_ip = client_ip
    return exchange


def places(name: str, clients: Iterable[str] = CLIENTS) -> list[float]:
    place = ClientPlace(route_of(name))
    return [place.of(exchange_of(client)) for client in clients]


class Named:
    """A layer that notes who passed."""

    def __init__(self, mode: Mode, inner: Handler) -> None:
        self.mode = mode
        self.inner = inner

    async def handle(self, exchange: Exchange) -> Response:
        response = await self.inner.handle(exchange)
        response.headers.append((b"Mode", self.mode.encode()))
        return response

    def __repr__(self) -> str:
        return f"<Named {self.mode}>"


# --- places ---------------------------------------------------------------------------------------------------------


def test_places_lie_in_the_unit_interval_and_are_spread_evenly() -> None:
    found = places("search")

    assert all(0 <= place < 1 for place in found)
    for tenth in range(1, 10):
        below = sum(place < tenth / 10 for place in found) / len(found)
        assert abs(below - tenth / 10) < 0.02  # four standard deviations


def test_client_has_the_same_place_in_every_request_and_every_instance() -> None:
    assert places("search", CLIENTS[:50]) == places("search", CLIENTS[:50])
    # Another value would move every client at an upgrade, and set old and new instances against each other.
    assert places("search", ["192.0.2.1"]) == [pytest.approx(0.08534104)]


def test_share_of_one_route_are_other_clients_than_that_of_another() -> None:
    both = sum(a < 0.1 and b < 0.1 for a, b in zip(places("search"), places("listings"), strict=True))

    assert 50 < both < 160  # 100 when independent, 1000 when the same


def test_place_is_worked_out_once_for_each_exchange() -> None:
    exchange = exchange_of("192.0.2.1")
    exchange.share = 0.25

    assert ClientPlace(route_of()).of(exchange) == 0.25


def test_place_is_kept_with_the_exchange() -> None:
    exchange = exchange_of("192.0.2.1")
    place = ClientPlace(route_of()).of(exchange)

    assert exchange.share == place


def test_client_is_what_the_first_rate_limit_counts_by() -> None:
    route = route_of("search", "header:X-User")
    place = ClientPlace(route)

    at_home = place.of(exchange_of("192.0.2.1", route, **{"X-User": "ada"}))
    at_work = place.of(exchange_of("198.51.100.9", route, **{"X-User": "ada"}))
    somebody = place.of(exchange_of("192.0.2.1", route, **{"X-User": "bob"}))

    assert at_home == at_work != somebody


def test_client_is_an_address_when_there_is_no_rate_limit() -> None:
    first, same, other = (exchange_of("192.0.2.1"), exchange_of("192.0.2.1"), exchange_of("192.0.2.2"))
    place = ClientPlace(route_of())

    assert place.of(first) == place.of(same) != place.of(other)


# --- the splitter ---------------------------------------------------------------------------------------------------


async def test_clients_below_the_share_meet_the_policy_and_the_others_its_shadow() -> None:
    enforced, shadowed = ScriptedHandler(), ScriptedHandler()
    split = EnforcedShare(enforced, shadowed, 0.1, ClientPlace(route_of()))
    for client in CLIENTS[:1000]:
        await split.handle(exchange_of(client))

    assert 60 < len(enforced.exchanges) < 140
    assert len(enforced.exchanges) + len(shadowed.exchanges) == 1000
    assert all((exchange.share or 0) < 0.1 for exchange in enforced.exchanges)


async def test_client_is_always_in_or_always_out() -> None:
    enforced, shadowed = ScriptedHandler(), ScriptedHandler()
    split = EnforcedShare(enforced, shadowed, 0.5, ClientPlace(route_of()))
    for _ in range(20):
        await split.handle(exchange_of("192.0.2.1"))

    assert sorted((len(enforced.exchanges), len(shadowed.exchanges))) == [0, 20]


@pytest.mark.parametrize(("place", "mode"), [(0.0, b"enforce"), (0.2499, b"enforce"), (0.25, b"shadow")])
async def test_share_is_from_zero_up_to_its_end(place: float, mode: bytes) -> None:
    inner = ScriptedHandler()
    split = EnforcedShare(Named("enforce", inner), Named("shadow", inner), 0.25, ClientPlace(route_of()))
    exchange = exchange_of("192.0.2.1")
    exchange.share = place

    assert (await split.handle(exchange)).headers[-1] == (b"Mode", mode)


def test_splitter_says_what_it_is() -> None:
    inner = ScriptedHandler()
    split = EnforcedShare(Named("enforce", inner), Named("shadow", inner), 0.1, ClientPlace(route_of()))

    assert repr(split) == "<EnforcedShare 0.1 of <Named enforce>>"


# --- modes ----------------------------------------------------------------------------------------------------------


def layer_of(mode: Mode, percent: float = 1.0) -> Handler | None:
    policy = BulkheadConfig(max_concurrent=1, mode=mode, enforce_percent=percent)
    layer = moded(policy, Named, ClientPlace(route_of()))
    return None if layer is None else layer(ScriptedHandler())


@pytest.mark.parametrize(
    ("mode", "percent", "built"),
    [
        ("off", 1.0, "None"),
        ("off", 0.5, "None"),
        ("enforce", 1.0, "<Named enforce>"),
        ("shadow", 1.0, "<Named shadow>"),
        ("shadow", 0.5, "<Named shadow>"),
        ("enforce", 0.5, "<EnforcedShare 0.5 of <Named enforce>>"),
    ],
)
def test_layer_is_built_in_its_mode(mode: Mode, percent: float, built: str) -> None:
    assert repr(layer_of(mode, percent)) == built


async def test_both_halves_stand_around_the_same_inner_handler() -> None:
    inner = ScriptedHandler()
    layer = moded(BulkheadConfig(max_concurrent=1, enforce_percent=0.5), Named, ClientPlace(route_of()))
    assert layer is not None
    split = layer(inner)
    for client in CLIENTS[:40]:
        await split.handle(exchange_of(client))

    assert len(inner.exchanges) == 40
