"""/admin: what the service holds, what it was asked, and the faults it was told to show."""

import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import Response

from upstream_stub.counts import Counts
from upstream_stub.database import engine_of
from upstream_stub.faults import BadFault, Fault, FaultRules, Rule
from upstream_stub.tables import listings, price_history, properties
from upstream_stub.web import NO_STORE, JsonResponse, Problem, json_body


class RuleInput(BaseModel):
    """A rule as it is sent: `count` requests at most, for `expires_in` seconds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    fault: Annotated[str, Field(min_length=1, max_length=200)]
    path: Annotated[str, Field(pattern=r"^/", max_length=200)] = "/"
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    count: Annotated[int, Field(ge=1)] | None = None
    expires_in: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


async def show_stats(request: Request) -> Response:
    """GET /admin/stats: rows in each table, deleted properties not counted."""
    tables = {
        "properties": select(func.count()).select_from(properties).where(properties.c.deleted_at.is_(None)),
        "price_history": select(func.count()).select_from(price_history),
        "listings": select(func.count()).select_from(listings),
    }
    async with engine_of(request).connect() as connection:
        counts = {name: await connection.scalar(statement) for name, statement in tables.items()}
    return JsonResponse(counts, headers=NO_STORE)


async def show_counts(request: Request) -> Response:
    """GET /admin/counts: requests since the start, but for /admin and /health, and all statements to the database."""
    counts: Counts = request.app.state.counts
    return JsonResponse({"requests": counts.requests, "queries": counts.queries}, headers=NO_STORE)


async def show_faults(request: Request) -> Response:
    """GET /admin/faults: the rules in force."""
    return JsonResponse({"faults": _rules(request).snapshot()}, headers=NO_STORE)


async def put_fault(request: Request) -> Response:
    """POST /admin/faults: one rule more, or in place of the one for the same path; answers with all of them."""
    try:
        sent = RuleInput.model_validate(await json_body(request))
        expires_at = None if sent.expires_in is None else time.monotonic() + sent.expires_in
        rule = Rule(sent.path, Fault.parse(sent.fault), sent.probability, sent.count, expires_at)
        _rules(request).put(rule)
    except ValidationError as error:
        raise Problem(422, "a rule has fault, path, probability, count and expires_in") from error
    except BadFault as error:
        raise Problem(422, str(error)) from error
    return await show_faults(request)


async def clear_faults(request: Request) -> Response:
    """DELETE /admin/faults: all rules end."""
    _rules(request).clear()
    return Response(status_code=204, headers=NO_STORE)


def _rules(request: Request) -> FaultRules:
    rules: FaultRules = request.app.state.rules
    return rules
