"""Opening the database. The first start fills it in one transaction: a crash leaves it empty, never half full."""

import sqlite3
from collections.abc import Callable
from itertools import islice

from sqlalchemy import Connection, event, insert, inspect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from starlette.requests import Request

from upstream_stub.dataset import generate
from upstream_stub.tables import METADATA, listings, price_history, properties

Progress = Callable[[int, int], None]
"""Told how many properties are stored, of how many."""

BATCH = 500


async def open_database(url: str, count: int, progress: Progress) -> AsyncEngine:
    """The engine for `url`, its database filled with `count` properties unless it already has tables.

    Raises sqlite3.Error or sqlalchemy.exc.SQLAlchemyError when the database cannot be opened or written.
    """
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        # when its connection fails to open, aiosqlite's thread outlives the event loop and complains: fail before
        sqlite3.connect(engine.url.database or ":memory:").close()
        event.listen(engine.sync_engine, "connect", _tune_sqlite)
    try:
        async with engine.connect() as connection:
            await _fill(connection, count, progress)
    except BaseException:
        await engine.dispose()
        raise
    return engine


def engine_of(request: Request) -> AsyncEngine:
    """The engine of the application that got `request`."""
    engine: AsyncEngine = request.app.state.engine
    return engine


def _tune_sqlite(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


async def _fill(connection: AsyncConnection, count: int, progress: Progress) -> None:
    if connection.dialect.name == "sqlite":
        # sqlite3 would begin only at the first INSERT; this also keeps a second process that starts now waiting
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
    if await connection.run_sync(_has_tables):
        return
    await connection.run_sync(METADATA.create_all)
    rows = generate(count)
    stored = 0
    while batch := list(islice(rows, BATCH)):
        await connection.execute(insert(properties), [row.property for row in batch])
        await connection.execute(insert(price_history), [sale for row in batch for sale in row.price_history])
        if offers := [offer for row in batch for offer in row.listings]:
            await connection.execute(insert(listings), offers)
        stored += len(batch)
        progress(stored, count)
    await connection.commit()


def _has_tables(connection: Connection) -> bool:
    return inspect(connection).has_table(properties.name)
