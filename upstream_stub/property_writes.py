"""Writing properties: POST, PUT, PATCH and DELETE below /properties."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from upstream_stub.database import engine_of
from upstream_stub.properties import Row, find, property_id
from upstream_stub.tables import price_history, properties
from upstream_stub.web import NO_STORE, JsonResponse, Problem, json_body


class PropertyInput(BaseModel):
    """What a client may write of a property."""

    model_config = ConfigDict(extra="forbid", strict=True)

    address: Annotated[str, Field(min_length=1, max_length=120)]
    suburb: Annotated[str, Field(min_length=1, max_length=60)]
    state: Literal["ACT", "NSW", "NT", "QLD", "SA", "TAS", "VIC", "WA"]
    postcode: Annotated[str, Field(pattern=r"^[0-9]{4}$")]
    property_type: Literal["apartment", "house", "townhouse", "villa"]
    bedrooms: Annotated[int, Field(ge=0, le=50)]
    bathrooms: Annotated[int, Field(ge=0, le=50)]
    car_spaces: Annotated[int, Field(ge=0, le=50)] = 0
    land_size: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    price: Annotated[int, Field(ge=1, le=1_000_000_000)]
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    description: Annotated[str, Field(max_length=4000)] = ""


async def create_property(request: Request) -> Response:
    """POST /properties."""
    values = _validated(await json_body(request))
    now = _now()
    async with engine_of(request).begin() as connection:
        statement = insert(properties).values(**values, created_at=now, updated_at=now).returning(properties.c.id)
        result = await connection.execute(statement)
        number: int = result.scalar_one()
        await _record_price(connection, number, "listed", values["price"], now)
        row = await find(connection, number)
    return JsonResponse(row, 201, NO_STORE | {"Location": f"/properties/{number}"})


async def replace_property(request: Request) -> Response:
    """PUT /properties/{id}: everything that is not sent takes its default."""
    return await _store(request, await json_body(request), keep=False)


async def change_property(request: Request) -> Response:
    """PATCH /properties/{id}: a merge patch (RFC 7396); everything that is not sent stays."""
    return await _store(request, await json_body(request), keep=True)


async def delete_property(request: Request) -> Response:
    """DELETE /properties/{id}: the row stays, marked as deleted."""
    number = property_id(request)
    async with engine_of(request).begin() as connection:
        await find(connection, number)
        await connection.execute(update(properties).where(properties.c.id == number).values(deleted_at=_now()))
    return Response(status_code=204, headers=NO_STORE)


async def _store(request: Request, sent: Any, *, keep: bool) -> Response:
    number, now = property_id(request), _now()
    async with engine_of(request).begin() as connection:
        old = await find(connection, number)
        kept = {name: old[name] for name in PropertyInput.model_fields} if keep else {}
        values = _validated(kept | sent if isinstance(sent, dict) else sent)
        await connection.execute(update(properties).where(properties.c.id == number).values(**values, updated_at=now))
        if values["price"] != old["price"]:
            await _record_price(connection, number, "repriced", values["price"], now)
        row = await find(connection, number)
    return JsonResponse(row, headers=NO_STORE)


async def _record_price(connection: AsyncConnection, number: int, event: str, price: int, when: datetime) -> None:
    values = {"property_id": number, "event": event, "price": price, "recorded_at": when}
    await connection.execute(insert(price_history).values(values))


def _validated(sent: Any) -> Row:
    try:
        return PropertyInput.model_validate(sent).model_dump()
    except ValidationError as error:
        fields = {str(item["loc"][0]) if item["loc"] else "" for item in error.errors(include_input=False)}
        known = sorted(fields & PropertyInput.model_fields.keys())
        wrong = ", ".join(known) or "fields that a property does not have"
        raise Problem(422, f"the property is not valid: {wrong}") from error


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
