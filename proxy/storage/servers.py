"""Which servers there are and which one a key belongs to: a single one, the master that sentinels name, a cluster.

This module, `connections` and `failures` import redis-py, which takes a tenth of a second: they are imported when a
client of Redis is made, and not before.
"""

import ssl
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, NoScriptError

from proxy.config.policies import RedisConfig
from proxy.storage.connections import Node
from proxy.storage.errors import StoreError
from proxy.storage.failures import FAILURES
from proxy.storage.script import Script

Address = tuple[str, int]
Word = bytes | int | str


class Servers(Protocol):
    """The servers of one configuration."""

    @property
    def nodes(self) -> Sequence[Node]:
        """Those that are known."""
        ...

    def owner(self, key: bytes) -> Node:
        """The server that keeps `key`. Raises StoreError when none is known."""
        ...

    async def refresh(self) -> None:
        """Look again which servers there are, if there is reason to. Raises what is in FAILURES."""
        ...

    async def evaluate(self, node: Node, script: Script, keys: Sequence[bytes], args: Sequence[Word]) -> Any:
        """Run a script on `node`, or on the server that it names. Raises what is in FAILURES."""
        ...

    def subscriber(self) -> AbstractConnection:
        """A connection, not opened yet, for messages. Raises StoreError."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def open_servers(config: RedisConfig, random: Callable[[], float]) -> Servers:
    """The servers of `config`; connects to nothing yet."""
    if config.url.kind == "cluster":
        return Cluster(config, random)
    return Single(config, random)


def _options(config: RedisConfig) -> dict[str, Any]:
    """What every connection is made with.

    Retries, health checks and limits on reading are off: each would take time of its own, and `redis.py` has one limit
    for the whole call. RESP2 without client information starts a connection without a round trip, where no login is
    needed.
    """
    return {
        "username": config.url.username or None,
        "password": config.url.password or None,
        "socket_timeout": None,
        "socket_connect_timeout": config.timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,
        "driver_info": None,
    }


def _tls(config: RedisConfig) -> ssl.SSLContext | None:
    return ssl.create_default_context() if config.url.tls else None


async def _evaluate(
    node: Node, script: Script, keys: Sequence[bytes], args: Sequence[Word], *, asking: bool = False
) -> Any:
    try:
        return await node.call(b"EVALSHA", script.sha, len(keys), *keys, *args, asking=asking)
    except NoScriptError:  # a server that was restarted, or is new
        return await node.call(b"EVAL", script.text, len(keys), *keys, *args, asking=asking)


class _Maker:
    """Makes connections to one address, or to the master that sentinels name. They share `tls`: it loads slowly."""

    def __init__(self, pool: ConnectionPool, tls: ssl.SSLContext | None) -> None:
        self._pool = pool  # only makes connections; its own bookkeeping is not used
        self._tls = tls

    def __call__(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        if isinstance(connection, SSLConnection):
            connection.ssl_context.context = self._tls
        return connection


# --- one server, or the master behind sentinels ---------------------------------------------------------------------


class Single:
    """One server; where there are sentinels, each new connection asks them which one it is."""

    def __init__(self, config: RedisConfig, random: Callable[[], float]) -> None:
        self._sentinel: Sentinel | None = None
        self._make = _Maker(self._make_pool(config), _tls(config))
        self._node = Node(str(config.url), self._make, config.max_connections, random)

    def _make_pool(self, config: RedisConfig) -> ConnectionPool:
        url, options = config.url, _options(config)
        if url.kind == "sentinel":
            self._sentinel = _sentinel(config)
            return SentinelConnectionPool(  # type: ignore[no-untyped-call]
                url.master, self._sentinel, ssl=url.tls, db=url.db, **options
            )
        if url.path:
            return ConnectionPool(UnixDomainSocketConnection, path=url.path, db=url.db, **options)
        host, port = url.nodes[0]
        return ConnectionPool(SSLConnection if url.tls else Connection, host=host, port=port, db=url.db, **options)

    @property
    def nodes(self) -> Sequence[Node]:
        """The server."""
        return (self._node,)

    def owner(self, _key: bytes) -> Node:
        """The server."""
        return self._node

    async def refresh(self) -> None:
        """There is nothing to look up: new connections ask."""

    async def evaluate(self, node: Node, script: Script, keys: Sequence[bytes], args: Sequence[Word]) -> Any:
        """Run a script. Raises what is in FAILURES."""
        return await _evaluate(node, script, keys, args)

    def subscriber(self) -> AbstractConnection:
        """A connection for messages."""
        return self._make()

    async def close(self) -> None:
        """Close all connections."""
        await self._node.close()
        if self._sentinel is not None:
            await self._sentinel.aclose()


def _sentinel(config: RedisConfig) -> Sentinel:
    """Asked one after the other; each has its part of the time, so that one that hangs does not hide the rest."""
    url, options = config.url, _options(config)
    part = config.timeout / len(url.nodes)
    options |= {"username": None, "password": None, "socket_timeout": part, "socket_connect_timeout": part}
    return Sentinel(url.nodes, sentinel_kwargs={**options, "ssl": url.tls})  # type: ignore[no-untyped-call]


# --- a cluster ------------------------------------------------------------------------------------------------------


class Cluster:
    """The masters of a cluster, each with connections of its own.

    Which master has which slots is learned from any node and corrected by every MOVED. (redis-py's own cluster client
    does that in background tasks and with retries, which take longer than a request may wait.)
    """

    def __init__(self, config: RedisConfig, random: Callable[[], float]) -> None:
        self._config = config
        self._random = random
        self._options = _options(config)
        self._tls = _tls(config)
        self._seeds = {address: self._make_node(address, limit=1) for address in config.url.nodes}
        self._masters: dict[Address, Node] = {}
        self._slots: dict[int, Node] = {}
        self._is_stale = True

    @property
    def nodes(self) -> Sequence[Node]:
        """The masters that are known."""
        return tuple(self._masters.values())

    def owner(self, key: bytes) -> Node:
        """The master that keeps the slot of `key`. Raises StoreError."""
        node = self._slots.get(key_slot(key))
        if node is None:
            raise StoreError("unavailable", "no master of the cluster is known for the key")
        return node

    async def refresh(self) -> None:
        """Ask one node after the other for the slots, when they may have moved. Raises what is in FAILURES."""
        if not (self._is_stale or any(node.reach.is_open for node in self._masters.values())):
            return
        failure: Exception = StoreError("unavailable", "no node of the cluster answers")
        known = [each for each in (*self._masters.items(), *self._seeds.items()) if not each[1].reach.is_open]
        first = int(self._random() * len(known))  # another one each time: the first may hang
        for address, node in known[first:] + known[:first]:
            try:
                slots = await node.call(b"CLUSTER", b"SLOTS")
            except FAILURES as error:
                failure = error
            else:
                await self._learn(slots, address)
                return
        raise failure

    async def _learn(self, ranges: list[Any], asked: Address) -> None:
        before, self._masters, self._slots = self._masters, {}, {}
        for first, last, (host, port, *_), *_replicas in ranges:
            address = ((host or b"").decode() or asked[0], port)  # none: the one that was asked
            if address in before:
                self._masters[address] = before.pop(address)
            node = self._master(address)
            self._slots.update(dict.fromkeys(range(first, last + 1), node))
        self._is_stale = False
        for node in before.values():
            await node.close()

    async def evaluate(self, node: Node, script: Script, keys: Sequence[bytes], args: Sequence[Word]) -> Any:
        """Run a script on the slot's master, wherever that is by now. Raises what is in FAILURES."""
        try:
            return await _evaluate(node, script, keys, args)
        except MovedError as moved:
            self._is_stale = True
            node = self._slots[moved.slot_id] = self._named(moved, node)
            return await _evaluate(node, script, keys, args)
        except AskError as ask:  # the slot is on its way
            return await _evaluate(self._named(ask, node), script, keys, args, asking=True)

    def subscriber(self) -> AbstractConnection:
        """A connection to any master: messages reach all of them. Raises StoreError."""
        nodes = [node for node in self._masters.values() if not node.reach.is_open]
        if not nodes:
            raise StoreError("unavailable", "no node of the cluster answers")
        return nodes[int(self._random() * len(nodes))].make()

    async def close(self) -> None:
        """Close all connections."""
        for node in (*self._masters.values(), *self._seeds.values()):
            await node.close()

    def _named(self, error: AskError, asked: Node) -> Node:
        return self._master((error.host or asked.name.rpartition(":")[0], error.port))

    def _master(self, address: Address) -> Node:
        return self._masters.get(address) or self._masters.setdefault(
            address, self._make_node(address, self._config.max_connections)
        )

    def _make_node(self, address: Address, limit: int) -> Node:
        host, port = address
        pool = ConnectionPool(SSLConnection if self._tls else Connection, host=host, port=port, **self._options)
        return Node(f"{host}:{port}", _Maker(pool, self._tls), limit, self._random)
