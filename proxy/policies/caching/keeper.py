"""What a fill asks of the one who keeps what it brings."""

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from proxy.exchange import Response
from proxy.protocol.caching.stored import StoredResponse
from proxy.protocol.fields import CONTENT_LENGTH, KINDS
from proxy.protocol.framing import parse_content_length
from proxy.protocol.headers import RawHeaders, is_event_stream

if TYPE_CHECKING:
    from proxy.policies.caching.fill import Fill

TOO_LARGE: Final = "too_large"
Kind = Literal["miss", "validate", "refresh", "warm"]
Outcome = Literal["stored", "not_stored", "updated", "failed", "cancelled", "too_large"]


class Judged(NamedTuple):
    """What the keeper says of a response's head."""

    stored: StoredResponse | None
    """To be kept: without a body yet, or the whole of it. None: it is not storable."""
    refusal: str
    """Why it is not; empty when it is."""
    is_whole: bool
    """Whether `stored` is complete already: the response was a 304 that has updated it."""


class Head(NamedTuple):
    """The head of a fill's response, the same for all who wait: nobody changes its fields."""

    status: int
    reason: bytes
    headers: RawHeaders
    judged: Judged


class Keeper(Protocol):
    """Decides what is kept, and keeps it."""

    def judge(self, fill: "Fill[Any]", response: Response, received_at: float) -> Judged:
        """Whether the response with this head may be stored; `received_at` is Unix time."""
        ...

    async def keep(self, fill: "Fill[Any]", stored: StoredResponse) -> None:
        """Keep a complete response. Those who read it do not wait for that."""
        ...

    def ended(self, fill: "Fill[Any]", outcome: Outcome, seconds: float) -> None:
        """The fill is over, `seconds` after its beginning. Called once."""
        ...


def refusal_of(response: Response, limit: int) -> str:
    """Why a response cannot be kept, whatever its fields allow; empty when it can. `limit` is the longest body."""
    if response.is_open_ended:
        return "open_ended"
    body = response.body
    if isinstance(body, bytes):
        return TOO_LARGE if len(body) > limit else ""
    if is_event_stream(response.headers):
        return "event_stream"
    return TOO_LARGE if _declared(response.headers) > limit else ""


def _declared(headers: RawHeaders) -> int:
    """The Content-Length, 0 without one."""
    for name, value in headers:
        if KINDS[name] & CONTENT_LENGTH:
            return parse_content_length(value) or 0
    return 0
