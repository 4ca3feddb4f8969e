"""Views over many properties: search, the offers of all sources, what a suburb costs."""

from collections import defaultdict
from statistics import fmean, median
from typing import Any

from sqlalchemy import or_, select
from starlette.requests import Request
from starlette.responses import Response

from upstream_stub.database import engine_of
from upstream_stub.paging import Order, read_page
from upstream_stub.properties import filtered
from upstream_stub.tables import listings, properties
from upstream_stub.web import Problem, cacheable, page_size, query_integer

BY_PRICE = Order((properties.c.price, properties.c.id))
LISTINGS_BY_PRICE = Order((listings.c.price, listings.c.id))
MAX_TEXT = 100


async def search(request: Request) -> Response:
    """GET /search?suburb&min_price&max_price&q&cursor&limit, cheapest first; `q`: text in address or description."""
    statement = filtered(request)
    if text := request.query_params.get("q"):
        if len(text) > MAX_TEXT:
            raise Problem(400, f"q must not be longer than {MAX_TEXT} characters")
        address, description = properties.c.address, properties.c.description
        statement = statement.where(
            or_(address.icontains(text, autoescape=True), description.icontains(text, autoescape=True))
        )
    cursor = request.query_params.get("cursor")
    page = await read_page(engine_of(request), statement, BY_PRICE, cursor, page_size(request))
    return cacheable(request, page, max_age=30)


async def list_listings(request: Request) -> Response:
    """GET /listings?property_id&source&cursor&limit: the cheapest first."""
    statement = select(*listings.c)
    if (number := query_integer(request, "property_id")) is not None:
        statement = statement.where(listings.c.property_id == number)
    if source := request.query_params.get("source"):
        statement = statement.where(listings.c.source == source)
    cursor = request.query_params.get("cursor")
    page = await read_page(engine_of(request), statement, LISTINGS_BY_PRICE, cursor, page_size(request))
    return cacheable(request, page, max_age=60)


async def aggregate_suburb(request: Request) -> Response:
    """GET /suburbs/{suburb}/aggregate: prices in all and by the number of bedrooms."""
    suburb = request.path_params["suburb"]
    statement = select(properties.c.bedrooms, properties.c.price).where(
        properties.c.suburb == suburb, properties.c.deleted_at.is_(None)
    )
    async with engine_of(request).connect() as connection:
        rows = (await connection.execute(statement)).all()
    if not rows:
        raise Problem(404, "there is no such suburb")
    by_bedrooms: defaultdict[int, list[int]] = defaultdict(list)
    for bedrooms, price in rows:
        by_bedrooms[bedrooms].append(price)
    content = {
        "suburb": suburb,
        **_summary([price for _, price in rows]),
        "by_bedrooms": [{"bedrooms": count} | _summary(by_bedrooms[count]) for count in sorted(by_bedrooms)],
    }
    return cacheable(request, content, max_age=300)


def _summary(prices: list[int]) -> dict[str, Any]:
    return {
        "count": len(prices),
        "min_price": min(prices),
        "max_price": max(prices),
        "average_price": round(fmean(prices)),
        "median_price": round(median(prices)),
    }
