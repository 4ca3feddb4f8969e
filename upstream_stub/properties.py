"""Reading properties: /properties and what lies below it."""

import asyncio
import hashlib
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from upstream_stub.database import engine_of
from upstream_stub.paging import Order, read_page
from upstream_stub.tables import price_history, properties
from upstream_stub.web import Problem, cacheable, integer, page_size, query_integer

Row = dict[str, Any]

COLUMNS = [column for column in properties.c if column is not properties.c.deleted_at]
ORDERS = {
    "id": Order((properties.c.id,)),
    "views": Order((properties.c.views, properties.c.id), descending=True),
}
_BY_ID = select(*COLUMNS).where(properties.c.id == bindparam("number"), properties.c.deleted_at.is_(None))
MODEL_SECONDS = 0.004
"""How long the prediction's model takes to think."""


async def list_properties(request: Request) -> Response:
    """GET /properties?suburb&min_price&max_price&sort&cursor&limit: by id, or `sort=views`: the most viewed first."""
    order = ORDERS.get(request.query_params.get("sort", "id"))
    if order is None:
        raise Problem(400, "sort must be id or views")
    cursor = request.query_params.get("cursor")
    page = await read_page(engine_of(request), filtered(request), order, cursor, page_size(request))
    return cacheable(request, page, max_age=30)


def filtered(request: Request) -> Select[Any]:
    """The properties within the query's `suburb`, `min_price` and `max_price`. Raises Problem 400."""
    statement = select(*COLUMNS).where(properties.c.deleted_at.is_(None))
    if suburb := request.query_params.get("suburb"):
        statement = statement.where(properties.c.suburb == suburb)
    if (low := query_integer(request, "min_price")) is not None:
        statement = statement.where(properties.c.price >= low)
    if (high := query_integer(request, "max_price")) is not None:
        statement = statement.where(properties.c.price <= high)
    return statement


async def show_property(request: Request) -> Response:
    """GET /properties/{id}."""
    async with engine_of(request).connect() as connection:
        row = await find(connection, property_id(request))
    return cacheable(request, row, max_age=60, modified=row["updated_at"])


async def show_price_history(request: Request) -> Response:
    """GET /properties/{id}/price-history, newest first."""
    number = property_id(request)
    history = price_history.c
    statement = (
        select(history.event, history.price, history.recorded_at)
        .where(history.property_id == number)
        .order_by(history.recorded_at.desc(), history.id.desc())
    )
    async with engine_of(request).connect() as connection:
        await find(connection, number)
        items = [dict(row) for row in (await connection.execute(statement)).mappings()]
    return cacheable(request, {"property_id": number, "items": items}, max_age=3600)


async def predict_price(request: Request) -> Response:
    """GET /properties/{id}/prediction: the same property always gets the same estimate."""
    async with engine_of(request).connect() as connection:
        row = await find(connection, property_id(request))
    await asyncio.sleep(MODEL_SECONDS)
    digest = hashlib.blake2b(f"{row['id']}:{row['price']}".encode(), digest_size=4).digest()
    estimate = round(row["price"] * (0.95 + int.from_bytes(digest) / 2**32 * 0.2) / 1000) * 1000
    content = {
        "property_id": row["id"],
        "prediction": estimate,
        "low": round(estimate * 0.93),
        "high": round(estimate * 1.07),
        "model": "stub-1",
    }
    return cacheable(request, content, max_age=60)


async def find(connection: AsyncConnection, number: int) -> Row:
    """The property `number`. Raises Problem 404."""
    row = (await connection.execute(_BY_ID, {"number": number})).mappings().first()
    if row is None:
        raise Problem(404, "there is no such property")
    return dict(row)


def property_id(request: Request) -> int:
    """The id in the path. Raises Problem 400."""
    return integer(request.path_params["id"], "id")
