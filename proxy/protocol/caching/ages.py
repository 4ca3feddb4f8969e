"""How old a response is when it arrives (RFC 9111 sections 4.2.3 and 5.1)."""

from math import floor

from proxy.protocol.caching.cache_control import MAX_SECONDS, delta_seconds
from proxy.protocol.caching.targeted import Lines
from proxy.protocol.dates import parse_http_date


def date_of(lines: Lines, received_at: float) -> float:
    """The first Date that is one; when the response was received if there is none (RFC 9110 section 6.6.1)."""
    for value in lines.get(b"date", ()):
        date = parse_http_date(value, received_at)
        if date is not None:
            return date
    return received_at


def initial_age(lines: Lines, date: float, requested_at: float, received_at: float) -> float:
    """Seconds: by its Date or by its Age, whichever makes it older (`corrected_initial_age`).

    Date counts whole seconds, so what remains of one between it and the receipt is no age.
    """
    apparent_age = max(floor(received_at - date), 0)
    response_delay = max(received_at - requested_at, 0.0)
    return min(max(apparent_age, age_value(lines) + response_delay), MAX_SECONDS)


def age_value(lines: Lines) -> int:
    """Of a list the first member (section 5.1); 0 without an Age, or for one that is no whole number of seconds."""
    values = b",".join(lines.get(b"age", ())).split(b",")
    first = next((value for value in (member.strip(b" \t") for member in values) if value), None)
    return delta_seconds(first) or 0
