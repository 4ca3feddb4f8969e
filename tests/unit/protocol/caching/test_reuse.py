"""Whether a stored response may be used now (RFC 9111 sections 4 and 5.2.1, RFC 5861, RFC 8246)."""

import pytest

from proxy.protocol.caching.directives import NO_DIRECTIVES, RequestDirectives, request_directives
from proxy.protocol.caching.reuse import Use, age_of, may_stand_in, ttl_of, use_of
from proxy.protocol.caching.stored import Terms, Validity

BORN = 1_000_000.0
"""All responses are fresh for 60 seconds from then on."""

VALID, SOFT, INVALID, GONE = Validity
FRESH, STALE, BEHIND, VALIDATE = Use

PLAIN = Terms("", born=BORN, lifetime=60.0)
IMMUTABLE = Terms("", born=BORN, lifetime=60.0, is_immutable=True)
NO_CACHE = Terms("", born=BORN, lifetime=60.0, always_validates=True, is_immutable=True)
STRICT = Terms("", born=BORN, lifetime=60.0, forbids_stale=True)
WINDOWS = Terms("", born=BORN, lifetime=60.0, stale_while_revalidate=30.0, stale_if_error=300.0)


def asks(line: bytes) -> RequestDirectives:
    return request_directives([(b"Cache-Control", line)]) if line else NO_DIRECTIVES


@pytest.mark.parametrize(
    ("terms", "age", "line", "use"),
    [
        (PLAIN, 0.0, b"", FRESH),
        (PLAIN, 59.9, b"", FRESH),
        (PLAIN, 60.0, b"", VALIDATE),
        (PLAIN, 61.0, b"", VALIDATE),
        (NO_CACHE, 0.0, b"", VALIDATE),
        (NO_CACHE, 0.0, b"max-stale", VALIDATE),
        (STRICT, 59.0, b"", FRESH),
        (STRICT, 60.0, b"max-stale", VALIDATE),
        (WINDOWS, 60.0, b"", BEHIND),
        (WINDOWS, 90.0, b"", BEHIND),
        (WINDOWS, 90.1, b"", VALIDATE),
        # no-cache
        (PLAIN, 5.0, b"no-cache", VALIDATE),
        (IMMUTABLE, 5.0, b"no-cache", VALIDATE),
        (WINDOWS, 65.0, b"no-cache", VALIDATE),
        (PLAIN, 65.0, b"no-cache, max-stale", VALIDATE),
        # what concerns the cache otherwise, or nothing
        (PLAIN, 5.0, b"no-store, only-if-cached, stale-if-error=5, foo", FRESH),
        (WINDOWS, 65.0, b"no-store", BEHIND),
        # max-age
        (PLAIN, 10.0, b"max-age=10", FRESH),
        (PLAIN, 10.1, b"max-age=10", VALIDATE),
        (PLAIN, 0.0, b"max-age=0", VALIDATE),
        (PLAIN, 65.0, b"max-age=3600", VALIDATE),
        (WINDOWS, 65.0, b"max-age=3600", VALIDATE),
        (IMMUTABLE, 5.0, b"max-age=0", FRESH),
        (IMMUTABLE, 5.0, b"max-age=1", FRESH),
        (IMMUTABLE, 60.0, b"max-age=0", VALIDATE),
        # min-fresh
        (PLAIN, 50.0, b"min-fresh=10", FRESH),
        (PLAIN, 50.1, b"min-fresh=10", VALIDATE),
        (PLAIN, 0.0, b"min-fresh=61", VALIDATE),
        (IMMUTABLE, 50.1, b"min-fresh=10", VALIDATE),
        (WINDOWS, 65.0, b"min-fresh=0", VALIDATE),
        (PLAIN, 65.0, b"min-fresh=0, max-stale", VALIDATE),
        # max-stale
        (PLAIN, 59.0, b"max-stale", FRESH),
        (PLAIN, 1e6, b"max-stale", STALE),
        (PLAIN, 70.0, b"max-stale=10", STALE),
        (PLAIN, 70.1, b"max-stale=10", VALIDATE),
        (PLAIN, 70.0, b"max-stale=10, max-age=70", STALE),
        (PLAIN, 70.0, b"max-stale=10, max-age=69", VALIDATE),
        (PLAIN, 70.0, b"max-stale, max-age=0", VALIDATE),
        (WINDOWS, 70.0, b"max-stale=10", BEHIND),
        (WINDOWS, 70.0, b"max-stale=9", VALIDATE),
        (WINDOWS, 95.0, b"max-stale", STALE),
    ],
)
def test_use_by_age_and_what_the_request_asks(terms: Terms, age: float, line: bytes, use: Use) -> None:
    assert use_of(terms, VALID, asks(line), BORN + age) is use


@pytest.mark.parametrize(
    ("terms", "age", "softened", "line", "use"),
    [
        (PLAIN, 20.0, 10.0, b"", VALIDATE),
        (PLAIN, 20.0, 20.0, b"", VALIDATE),
        (PLAIN, 20.0, 25.0, b"", VALIDATE),
        (STRICT, 20.0, 10.0, b"max-stale", VALIDATE),
        (IMMUTABLE, 20.0, 10.0, b"", VALIDATE),
        (PLAIN, 20.0, 10.0, b"max-stale=10", STALE),
        (PLAIN, 20.0, 10.0, b"max-stale=9", VALIDATE),
        (WINDOWS, 40.0, 10.0, b"", BEHIND),
        (WINDOWS, 40.1, 10.0, b"", VALIDATE),
        (WINDOWS, 90.0, 70.0, b"", BEHIND),
        (WINDOWS, 90.1, 70.0, b"", VALIDATE),
        (WINDOWS, 20.0, None, b"", BEHIND),
        (WINDOWS, 90.1, None, b"", VALIDATE),
    ],
)
def test_softened_response_is_stale_from_then_on(
    terms: Terms, age: float, softened: float | None, line: bytes, use: Use
) -> None:
    softened_at = 0.0 if softened is None else BORN + softened

    assert use_of(terms, SOFT, asks(line), BORN + age, softened_at) is use


@pytest.mark.parametrize("validity", [INVALID, GONE])
@pytest.mark.parametrize("line", [b"", b"max-stale", b"stale-if-error=999"])
def test_invalid_response_is_never_used_as_it_is(validity: Validity, line: bytes) -> None:
    assert use_of(WINDOWS, validity, asks(line), BORN) is VALIDATE
    assert not may_stand_in(WINDOWS, validity, asks(line), BORN)


@pytest.mark.parametrize(
    ("terms", "age", "line", "expected"),
    [
        (PLAIN, 59.0, b"", True),
        (PLAIN, 59.0, b"max-age=0", True),
        (STRICT, 59.0, b"max-age=0", True),
        (PLAIN, 60.0, b"", False),
        (WINDOWS, 60.0, b"", True),
        (WINDOWS, 360.0, b"", True),
        (WINDOWS, 360.1, b"", False),
        (WINDOWS, 70.0, b"max-age=0", True),
        (WINDOWS, 70.0, b"min-fresh=99", True),
        (WINDOWS, 70.0, b"no-cache", False),
        (PLAIN, 5.0, b"no-cache", False),
        (WINDOWS, 70.0, b"no-cache, stale-if-error=10", True),
        (PLAIN, 70.0, b"stale-if-error=10", True),
        (PLAIN, 70.1, b"stale-if-error=10", False),
        (WINDOWS, 70.1, b"stale-if-error=10", False),
        (WINDOWS, 60.0, b"stale-if-error=0", False),
        (STRICT, 61.0, b"stale-if-error=10", False),
        (NO_CACHE, 5.0, b"stale-if-error=10", False),
    ],
)
def test_standing_in_for_an_error(terms: Terms, age: float, line: bytes, expected: bool) -> None:
    assert may_stand_in(terms, VALID, asks(line), BORN + age) is expected


@pytest.mark.parametrize(
    ("age", "softened", "expected"),
    [(310.0, 10.0, True), (310.1, 10.0, False), (360.0, 70.0, True), (360.1, 70.0, False), (20.0, 0.0, True)],
)
def test_softened_response_stands_in_within_its_window(age: float, softened: float, expected: bool) -> None:
    softened_at = BORN + softened if softened else 0.0

    assert may_stand_in(WINDOWS, SOFT, NO_DIRECTIVES, BORN + age, softened_at) is expected


@pytest.mark.parametrize(
    ("after", "age", "ttl"),
    [
        (0.0, 0, 60),
        (0.9, 0, 59),
        (1.0, 1, 59),
        (60.0, 60, 0),
        (60.1, 60, -1),
        (-5.0, 0, 65),
        (1e12, 2**31, 60 - 10**12),
    ],
)
def test_age_and_freshness_left_in_whole_seconds(after: float, age: int, ttl: int) -> None:
    assert age_of(PLAIN, BORN + after) == age
    assert ttl_of(PLAIN, BORN + after) == ttl
