"""Whose response it is: what tells users apart who must not see each other's."""

from collections.abc import Callable, Sequence

from proxy.config.policy_types import ClientKey
from proxy.exchange import Exchange
from proxy.policies.client_key import address_key, reading


def user_reader(keys: Sequence[ClientKey]) -> Callable[[Exchange], bytes | None] | None:
    """Reads the user of an exchange, None when it says none; without `keys` there are no users to tell apart.

    One key gives its value as it is, so that it can be purged by; several are put together with their lengths.
    """
    if not keys:
        return None
    reads = [reading(key) for key in keys]
    if len(reads) == 1:
        read = reads[0]
        return lambda exchange: read(exchange) or None

    def read_all(exchange: Exchange) -> bytes | None:
        parts = [read(exchange) for read in reads]
        return b"".join([b"%d:%b" % (len(part), part) for part in parts]) if all(parts) else None

    return read_all


def user_of(keys: Sequence[ClientKey], values: Sequence[str]) -> bytes:
    """What a reader for `keys` reads from a user who sends these values, one for each of them."""
    parts = [
        address_key(value) if key.kind == "client_ip" else value.encode("utf-8", "surrogateescape")
        for key, value in zip(keys, values, strict=True)
    ]
    return parts[0] if len(parts) == 1 else b"".join([b"%d:%b" % (len(part), part) for part in parts])
