import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.client import RawClient
from tests.support.messages import Response
from tests.support.stub import Stub, running_stub

PROPERTY = {
    "address": "1 Café Lane",
    "suburb": "Newtown",
    "state": "NSW",
    "postcode": "2042",
    "property_type": "house",
    "bedrooms": 3,
    "bathrooms": 1,
    "price": 1_500_000,
    "latitude": -33.9,
    "longitude": 151.2,
}


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    """One for all tests: each writes to properties of its own."""
    with running_stub(tmp_path_factory.mktemp("stub"), properties=20) as running:
        yield running


@pytest.fixture
async def client(stub: Stub) -> AsyncIterator[RawClient]:
    async with RawClient(stub.port) as connected:
        yield connected


async def send(client: RawClient, method: str, target: str, content: Any) -> Response:
    return await client.request(method, target, body=json.dumps(content).encode())


async def history(client: RawClient, target: str) -> list[tuple[str, int]]:
    items = (await client.request("GET", f"{target}/price-history")).json()["items"]
    return [(item["event"], item["price"]) for item in items]


async def test_a_created_property_is_found_where_location_says(client: RawClient) -> None:
    created = await send(client, "POST", "/properties", PROPERTY)
    location = created.header("Location") or ""
    assert (created.status, location) == (201, f"/properties/{created.json()['id']}")
    found = await client.request("GET", location)
    assert found.json() == created.json()
    assert found.json().items() >= PROPERTY.items()
    assert await history(client, location) == [("listed", 1_500_000)]


async def test_put_replaces_everything(client: RawClient) -> None:
    replaced = await send(client, "PUT", "/properties/2", PROPERTY)
    assert (replaced.status, replaced.json()["land_size"], replaced.json()["description"]) == (200, None, "")
    assert (await history(client, "/properties/2"))[0] == ("repriced", 1_500_000)


async def test_patch_changes_what_is_sent_and_nothing_else(client: RawClient) -> None:
    before = await client.request("GET", "/properties/3")
    changed = await send(client, "PATCH", "/properties/3", {"bedrooms": 9})
    assert changed.status == 200
    assert changed.json() == before.json() | {"bedrooms": 9, "updated_at": changed.json()["updated_at"]}
    assert (await client.request("GET", "/properties/3")).header("ETag") != before.header("ETag")


async def test_the_same_price_makes_no_history(client: RawClient) -> None:
    before = await history(client, "/properties/4")
    price = (await client.request("GET", "/properties/4")).json()["price"]
    await send(client, "PATCH", "/properties/4", {"price": price})
    assert await history(client, "/properties/4") == before


async def test_a_deleted_property_is_gone_everywhere(client: RawClient) -> None:
    before = (await client.request("GET", "/admin/stats")).json()["properties"]
    assert (await client.request("DELETE", "/properties/5")).status == 204
    for method, target in (("GET", "/properties/5"), ("DELETE", "/properties/5"), ("GET", "/properties/5/prediction")):
        assert (await client.request(method, target)).status == 404
    listed = (await client.request("GET", "/properties?limit=100")).json()["items"]
    assert 5 not in {item["id"] for item in listed}
    assert (await client.request("GET", "/admin/stats")).json()["properties"] == before - 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"bedrooms": "3"},
        {"bedrooms": -1},
        {"price": 0},
        {"price": 10**30},
        {"state": "Texas"},
        {"postcode": "20420"},
        {"latitude": 91},
        {"address": ""},
        {"owner": "me"},
    ],
)
async def test_invalid_fields_are_422_and_change_nothing(client: RawClient, wrong: dict[str, Any]) -> None:
    before = (await client.request("GET", "/properties/1")).body
    for method, target, content in (
        ("POST", "/properties", PROPERTY | wrong),
        ("PUT", "/properties/1", PROPERTY | wrong),
        ("PATCH", "/properties/1", wrong),
    ):
        response = await send(client, method, target, content)
        assert (response.status, response.header("Content-Type")) == (422, "application/problem+json")
        assert "owner" not in response.json()["detail"]
    assert (await client.request("GET", "/properties/1")).body == before


@pytest.mark.parametrize("content", [[], "text", None, 5])
async def test_json_that_is_no_object_is_422(client: RawClient, content: Any) -> None:
    for method, target in (("POST", "/properties"), ("PUT", "/properties/1"), ("PATCH", "/properties/1")):
        assert (await send(client, method, target, content)).status == 422


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"price": NaN}'])
async def test_a_body_that_is_not_json_is_400(client: RawClient, body: bytes) -> None:
    assert (await client.request("POST", "/properties", body=body)).status == 400


async def test_a_body_above_64_kib_is_413(stub: Stub) -> None:
    async with RawClient(stub.port) as client:
        response = await client.request("POST", "/properties", body=b" " * (64 * 1024 + 1))
    assert response.status == 413


async def test_writes_at_the_same_time_all_succeed(stub: Stub) -> None:
    async def create() -> int:
        async with RawClient(stub.port) as client:
            return int((await send(client, "POST", "/properties", PROPERTY)).json()["id"])

    assert len(set(await asyncio.gather(*(create() for _ in range(20))))) == 20
