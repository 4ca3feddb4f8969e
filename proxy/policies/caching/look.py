"""What is known of a request when it has been looked up."""

from proxy.protocol.caching.directives import NO_DIRECTIVES, RequestDirectives
from proxy.protocol.caching.keys import CacheKey
from proxy.protocol.caching.stored import StoredResponse, Validity
from proxy.storage.memory import Entry


class Look:
    """What is known of one request when it has been looked up."""

    __slots__ = ("before", "directives", "entry", "key", "noted", "reason", "softened_at", "validates", "validity")

    def __init__(self, key: CacheKey, entry: Entry | None, directives: RequestDirectives) -> None:
        self.key = key
        self.entry = entry
        self.directives = directives
        self.before: StoredResponse | None = None
        """What there is and may not be sent as it is."""
        self.validity = Validity.VALID
        """Of that, when it was looked up; `softened_at` goes with it."""
        self.softened_at = 0.0
        self.noted = 0
        """The count of changes before it was fetched."""
        self.validates = True
        """Whether the upstream may be asked if what there is still holds."""
        self.reason = "uri-miss"
        """Why the upstream is asked, as Cache-Status has it."""

    @property
    def is_forced(self) -> bool:
        """Whether the client wants more than the freshness of what is stored: what others were given will not do."""
        said = self.directives
        return said is not NO_DIRECTIVES and (
            said.no_cache or said.no_store or said.max_age is not None or said.min_fresh is not None
        )
