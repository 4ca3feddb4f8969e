import pytest

from proxy.protocol import fields
from proxy.protocol.fields import KINDS, is_oversized, kind_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"Host", fields.HOST),
        (b"CONTENT-length", fields.CONTENT_LENGTH),
        (b"X-Custom", fields.ORDINARY),
        (b"Proxy-Authorization", fields.HOP_BY_HOP),
        (b"x-forwarded-anything", fields.FORWARDED),
        (b"X-REQUEST-deadline-ms", fields.INTERNAL),
        (b"api_key", fields.UNDERSCORE),
        (b"Content_Length", fields.UNDERSCORE | fields.TWIN),
        (b"X_Forwarded-For", fields.UNDERSCORE | fields.TWIN),
        (b"", fields.INVALID),
        (b"a b", fields.INVALID),
        (b"a:", fields.INVALID),
        (b"caf\xe9", fields.INVALID),
    ],
)
def test_names_have_kinds_in_any_spelling(name: bytes, kind: int) -> None:
    assert kind_of(name) == kind
    assert KINDS[name] == kind


def test_names_seen_before_are_remembered() -> None:
    known = fields._KnownKinds()

    assert known[b"HOST"] == fields.HOST
    assert known == {b"HOST": fields.HOST}


def test_memory_of_names_is_bounded() -> None:
    known = fields._KnownKinds()

    for number in range(5000):
        assert known[b"x-%d" % number] == fields.ORDINARY

    assert len(known) == 1024
    assert known[b"HoSt"] == fields.HOST


def test_long_names_are_never_remembered() -> None:
    known = fields._KnownKinds()

    assert known[b"x" * 65] == fields.LONG
    assert not known


@pytest.mark.parametrize(("limit", "oversized"), [(4 + 1 + 10, False), (4 + 1 + 9, True)])
def test_size_is_names_values_and_four_bytes_for_each_field(limit: int, oversized: bool) -> None:
    assert is_oversized([(b"a", b"x" * 10)], 0, 10, limit) is oversized


def test_size_of_long_names_counts() -> None:
    assert is_oversized([(b"a" * 2000, b"")], fields.LONG, 0, 1000)


def test_every_kind_has_a_bit_of_its_own() -> None:
    others = {"ORDINARY", "FRAMING", "CACHING", "MAX_FIELDS", "_SHORT_NAME"}
    bits = [value for name, value in vars(fields).items() if name.isupper() and name not in others]
    kinds = [value for value in bits if isinstance(value, int)]

    assert len(kinds) > 10
    assert all(kind.bit_count() == 1 for kind in kinds)
    assert len(set(kinds)) == len(kinds)
