"""Keyset pagination: a page begins after the last row of the one before, so rows that come and go shift nothing."""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from upstream_stub.web import Problem

_CURSOR = re.compile(rb"[0-9]{1,18}(\.[0-9]{1,18}){0,2}")
MAX_CURSOR = 100


@dataclass(frozen=True, slots=True)
class Order:
    """Integer columns that together are unique, all ascending or all descending."""

    columns: tuple[ColumnElement[int], ...]
    descending: bool = False

    def begin_after(self, statement: Select[Any], cursor: str | None) -> Select[Any]:
        """`statement` in this order, without the rows up to the one that `cursor` names. Raises Problem 400."""
        statement = statement.order_by(*(column.desc() if self.descending else column for column in self.columns))
        if cursor is None:
            return statement
        position = tuple_(*_decode(cursor, len(self.columns)))
        row = tuple_(*self.columns)
        return statement.where(row < position if self.descending else row > position)

    def cursor(self, row: dict[str, Any]) -> str:
        """The cursor that names `row`: opaque to clients."""
        position = ".".join(str(row[column.key or ""]) for column in self.columns)
        return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


async def read_page(
    engine: AsyncEngine, statement: Select[Any], order: Order, cursor: str | None, limit: int
) -> dict[str, Any]:
    """The `items` of one page and the `next_cursor`, None on the last page."""
    statement = order.begin_after(statement, cursor).limit(limit + 1)
    async with engine.connect() as connection:
        rows = [dict(row) for row in (await connection.execute(statement)).mappings()]
    items = rows[:limit]
    return {"items": items, "next_cursor": order.cursor(items[-1]) if len(rows) > limit else None}


def _decode(cursor: str, parts: int) -> list[int]:
    try:
        text = base64.urlsafe_b64decode(cursor[:MAX_CURSOR] + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        text = b""
    if len(cursor) > MAX_CURSOR or not _CURSOR.fullmatch(text) or text.count(b".") != parts - 1:
        raise Problem(400, "cursor is not one that this service gave")
    return [int(part) for part in text.split(b".")]
