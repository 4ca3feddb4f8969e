import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.client import RawClient
from tests.support.messages import Response
from tests.support.stub import Stub, running_stub

PROPERTIES = 300


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    with running_stub(tmp_path_factory.mktemp("stub"), PROPERTIES) as running:
        yield running


async def get(stub: Stub, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Response:
    async with RawClient(stub.port) as client:
        return await client.request(method, target, headers)


async def all_pages(stub: Stub, target: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    async with RawClient(stub.port) as client:
        while True:
            page = (await client.request("GET", target + cursor)).json()
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            cursor = f"&cursor={page['next_cursor']}"


async def test_a_property_is_shown_with_validators_and_freshness(stub: Stub) -> None:
    response = await get(stub, "/properties/1")
    assert (response.status, response.header("Content-Type")) == (200, "application/json")
    assert response.json()["address"] == "77 Bridge Street"
    assert response.header("Cache-Control") == "public, max-age=60"
    assert response.header("Last-Modified") == "Tue, 30 Apr 2024 02:25:00 GMT"
    assert response.header("ETag")


async def test_text_is_utf_8(stub: Stub) -> None:
    assert "1049 m²" in (await get(stub, "/properties/1")).body.decode("utf-8")


@pytest.mark.parametrize(
    "target",
    [
        "/health",
        "/properties",
        "/properties/1",
        "/properties/1/prediction",
        "/properties/1/price-history",
        "/search",
        "/listings",
        "/suburbs/Newtown/aggregate",
        "/admin/stats",
        "/admin/faults",
    ],
)
async def test_head_answers_like_get_without_the_body(stub: Stub, target: str) -> None:
    whole = await get(stub, target)
    head = await get(stub, target, method="HEAD")
    assert whole.status == head.status == 200
    assert head.body == b""
    assert head.content_length == len(whole.body)


async def test_requests_and_statements_are_counted_but_not_those_that_ask_for_the_counts(stub: Stub) -> None:
    before = (await get(stub, "/admin/counts")).json()
    await get(stub, "/properties/1")
    await get(stub, "/health")
    after = (await get(stub, "/admin/counts")).json()

    assert after["requests"] - before["requests"] == 1
    assert after["queries"] - before["queries"] == 2


async def test_a_client_that_has_the_representation_gets_304(stub: Stub) -> None:
    first = await get(stub, "/properties/1")
    etag, modified = first.header("ETag") or "", first.header("Last-Modified") or ""
    for condition in ({"If-None-Match": f'"other", W/{etag}'}, {"If-None-Match": "*"}, {"If-Modified-Since": modified}):
        response = await get(stub, "/properties/1", condition)
        assert (response.status, response.body, response.header("ETag")) == (304, b"", etag)


async def test_a_client_with_another_representation_gets_200(stub: Stub) -> None:
    modified = (await get(stub, "/properties/1")).header("Last-Modified") or ""
    for condition in (
        {"If-None-Match": '"other"', "If-Modified-Since": modified},
        {"If-Modified-Since": "Mon, 29 Apr 2024 00:00:00 GMT"},
        {"If-Modified-Since": "yesterday"},
    ):
        assert (await get(stub, "/properties/1", condition)).status == 200


@pytest.mark.parametrize("sort", ["id", "views"])
async def test_the_pages_of_the_list_hold_every_property_once(stub: Stub, sort: str) -> None:
    items = await all_pages(stub, f"/properties?sort={sort}&limit=7")
    assert sorted(item["id"] for item in items) == list(range(1, PROPERTIES + 1))


async def test_sort_views_begins_with_the_most_viewed(stub: Stub) -> None:
    views = [item["views"] for item in await all_pages(stub, "/properties?sort=views&limit=100")]
    assert views == sorted(views, reverse=True)


async def test_search_filters_and_pages_by_price(stub: Stub) -> None:
    everything = await all_pages(stub, "/properties?limit=100")
    suburb = everything[0]["suburb"]
    wanted = [item for item in everything if item["suburb"] == suburb and 500_000 <= item["price"] <= 1_500_000]
    target = f"/search?suburb={quote(suburb)}&min_price=500000&max_price=1500000&limit=2"
    assert await all_pages(stub, target) == sorted(wanted, key=lambda item: (item["price"], item["id"]))
    assert wanted


async def test_search_finds_text_and_takes_wildcards_literally(stub: Stub) -> None:
    found = await all_pages(stub, "/search?q=bridge%20street&limit=100")
    assert found
    assert all("Bridge Street" in item["address"] for item in found)
    assert (await get(stub, "/search?q=%25")).json()["items"] == []


async def test_a_prediction_stays_the_same(stub: Stub) -> None:
    first, second = await get(stub, "/properties/1/prediction"), await get(stub, "/properties/1/prediction")
    assert first.json() == second.json()
    assert first.json()["low"] < first.json()["prediction"] < first.json()["high"]


async def test_price_history_is_newest_first_and_ends_at_the_price(stub: Stub) -> None:
    history = (await get(stub, "/properties/1/price-history")).json()["items"]
    dates = [sale["recorded_at"] for sale in history]
    assert dates == sorted(dates, reverse=True)
    assert history[0]["price"] == (await get(stub, "/properties/1")).json()["price"]


async def test_listings_are_paged_and_filtered(stub: Stub) -> None:
    items = await all_pages(stub, "/listings?limit=10")
    assert len({item["id"] for item in items}) == len(items) == (await get(stub, "/admin/stats")).json()["listings"]
    agency = await all_pages(stub, "/listings?source=agency&limit=100")
    assert agency == [item for item in items if item["source"] == "agency"]
    number = items[0]["property_id"]
    assert await all_pages(stub, f"/listings?property_id={number}&limit=100") == [
        item for item in items if item["property_id"] == number
    ]


async def test_an_aggregate_sums_up_a_suburb(stub: Stub) -> None:
    prices = [item["price"] for item in await all_pages(stub, "/properties?suburb=Bondi%20Beach&limit=100")]
    aggregate = (await get(stub, "/suburbs/Bondi%20Beach/aggregate")).json()
    assert (aggregate["count"], aggregate["min_price"], aggregate["max_price"]) == (
        len(prices),
        min(prices),
        max(prices),
    )
    assert sum(part["count"] for part in aggregate["by_bedrooms"]) == len(prices)


@pytest.mark.parametrize(
    "target",
    [
        "/properties/abc",
        "/properties/-1",
        "/properties/1_0",
        "/properties/%D9%A1",
        "/properties/" + "1" * 30,
        "/properties/1.0/prediction",
        "/properties?limit=0",
        "/properties?limit=101",
        "/properties?limit=ten",
        "/properties?min_price=1e6",
        "/properties?sort=price",
        "/properties?cursor=!!",
        "/properties?cursor=MS4y",
        "/properties?cursor=" + "MTEx" * 100,
        "/search?cursor=MQ",
        "/search?q=" + "x" * 101,
        "/listings?property_id=x",
    ],
)
async def test_bad_parameters_are_400_and_are_not_echoed(stub: Stub, target: str) -> None:
    response = await get(stub, target)
    problem = response.json()
    assert (response.status, response.header("Content-Type")) == (400, "application/problem+json")
    assert (problem["status"], problem["title"]) == (400, "Bad Request")
    assert target.rpartition("=")[2].rpartition("/")[2] not in problem["detail"].split()


@pytest.mark.parametrize(
    "target",
    ["/", "/properties/", "/properties/999999", "/properties/999999/prediction", "/suburbs/Atlantis/aggregate", "/x"],
)
async def test_what_is_not_there_is_404(stub: Stub, target: str) -> None:
    response = await get(stub, target)
    assert (response.status, response.header("Content-Type")) == (404, "application/problem+json")


async def test_a_method_that_is_not_offered_is_405_with_those_that_are(stub: Stub) -> None:
    response = await get(stub, "/properties/1", method="POST")
    assert response.status == 405
    allowed = {name.strip() for name in (response.header("Allow") or "").split(",")}
    assert allowed == {"GET", "HEAD", "PUT", "PATCH", "DELETE"}


async def test_health_says_ok_and_is_not_stored(stub: Stub) -> None:
    response = await get(stub, "/health")
    assert (response.json(), response.header("Cache-Control")) == ({"status": "ok"}, "no-store")


async def test_login_gives_a_token_for_the_right_password_only(stub: Stub) -> None:
    async with RawClient(stub.port) as client:
        right = await client.request("POST", "/auth/login", body=b'{"email":"demo@example.com","password":"demo"}')
        wrong = await client.request("POST", "/auth/login", body=b'{"email":"demo@example.com","password":"no"}')
        neither = await client.request("POST", "/auth/login", body=json.dumps(["demo"]).encode())
    assert (right.status, right.json()["token_type"]) == (200, "Bearer")
    assert (wrong.status, wrong.header("WWW-Authenticate")) == (401, "Bearer")
    assert neither.status == 422


async def test_a_webhook_is_accepted(stub: Stub) -> None:
    async with RawClient(stub.port) as client:
        accepted = await client.request("POST", "/webhooks/stripe", body=b"hello")
        unknown = await client.request("POST", "/webhooks/..%2f", body=b"hello")
    assert (accepted.status, accepted.json()["source"], accepted.json()["bytes"]) == (202, "stripe", 5)
    assert unknown.status == 404
