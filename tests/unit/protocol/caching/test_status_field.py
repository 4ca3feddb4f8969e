"""Values of Cache-Status (RFC 9211 section 2)."""

import pytest

from proxy.protocol.caching.status_field import forwarded, hit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (hit(376), b"tidegate;hit;ttl=376"),
        (hit(-30), b"tidegate;hit;ttl=-30"),
        (hit(0, "stale-while-revalidate"), b'tidegate;hit;ttl=0;detail="stale-while-revalidate"'),
        (forwarded("uri-miss"), b"tidegate;fwd=uri-miss"),
        (forwarded("uri-miss", stored=True), b"tidegate;fwd=uri-miss;stored"),
        (forwarded("stale", status=304, stored=True), b"tidegate;fwd=stale;fwd-status=304;stored"),
        (forwarded("miss", collapsed=True), b"tidegate;fwd=miss;collapsed"),
        (forwarded("bypass", detail='say "no"'), b'tidegate;fwd=bypass;detail="say \\"no\\""'),
    ],
)
def test_value(value: bytes, text: bytes) -> None:
    assert value == text


@pytest.mark.parametrize("reason", ["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"])
def test_reasons_are_those_of_the_standard(reason: str) -> None:
    assert forwarded(reason) == b"tidegate;fwd=" + reason.encode()


def test_other_reasons_are_refused() -> None:
    with pytest.raises(ValueError, match="'expired' is no reason"):
        forwarded("expired")
