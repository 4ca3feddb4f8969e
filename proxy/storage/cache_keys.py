"""Names of what the cache keeps in Redis.

A script works on a response, its lease and the generations of its tags at once, so in a cluster all of it is in one
slot: `{PREFIX:cache}` is the hash tag. Whatever comes from clients is in the names as a hash only.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

_FORMAT: Final = b"1"
"""Of what is stored: instances of another one neither read nor delete ours. Generations are the same for all."""


class CacheKeys:
    """`space` begins all names, such as b"tidegate:cache"."""

    __slots__ = ("_generation", "_lease", "_response", "purges", "server", "wakes")

    def __init__(self, space: bytes) -> None:
        tagged = b"{" + space + b"}:"
        self._response = tagged + b"r" + _FORMAT + b":"
        self._lease = tagged + b"l" + _FORMAT + b":"
        self._generation = tagged + b"g:"
        self.server = tagged + b"server"
        """The server that it was stored on."""
        self.purges = tagged + b"purges"
        """The channel of purges."""
        self.wakes = tagged + b"wakes" + _FORMAT
        """The channel that says which leases have ended."""

    def response(self, key: bytes) -> bytes:
        """The response of a key, or the index of its variants."""
        return self._response + key.hex().encode()

    def variant(self, key: bytes, variant: bytes) -> bytes:
        """One of several responses of a key."""
        return b"%b:%b" % (self.response(key), variant.hex().encode())

    def lease(self, key: bytes) -> bytes:
        """Who fetches the response of a key."""
        return self._lease + key.hex().encode()

    def generations(self, tags: Sequence[str]) -> list[bytes]:
        """The generations of tags, in their order."""
        prefix = self._generation
        return [prefix + blake2b(_octets(tag), digest_size=16).hexdigest().encode() for tag in tags]


def _octets(tag: str) -> bytes:
    return tag.encode("utf-8", "surrogateescape")
