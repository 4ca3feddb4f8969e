"""Entries of Redis: what was stored comes back, and nothing else ever does."""

import pickle
import tracemalloc
import zlib
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.protocol.caching.stored import Part, StoredResponse, Terms
from proxy.storage import cache_codec
from proxy.storage.cache_codec import MAX_BODY, BadEntry, decode, encode, seal
from tests.support.entries import FIELDS, asking, stored_response

KEY = b"k" * 16
NOW = 2000.0
JSON = b'{"id": 1, "suburb": "Newtown"}' * 400
HEAD = 17
"""Bytes before the payload: version and checksum."""


def reason_of(data: bytes, key: bytes = KEY) -> str:
    with pytest.raises(BadEntry) as caught:
        decode(key, data, NOW)
    return caught.value.reason


def payload(**changes: Any) -> list[Any]:
    """What an entry says, in the order of the format, with changes."""
    values = msgspec.msgpack.decode(encode(KEY, stored_response(b"{}"), compress_above=None)[HEAD:])
    names = cache_codec._Wire.__struct_fields__
    assert not changes.keys() - set(names)
    return [changes.get(name, value) for name, value in zip(names, values, strict=True)]


def entry(**changes: Any) -> bytes:
    """An entry with the right checksum, as somebody could make it who may write to Redis."""
    return seal(KEY, msgspec.msgpack.encode(payload(**changes)))


# --- what was stored comes back ---

GZIP = asking(accept_encoding="gzip")
FULL = stored_response(
    b"body",
    status=404,
    tags=("*", "route=details", "property:1"),
    vary=(b"accept-encoding", b"origin"),
    answers=GZIP,
    fill_seconds=1.5,
    stale_while_revalidate=30.0,
    stale_if_error=86_400.0,
    forbids_stale=True,
    always_validates=True,
    is_immutable=True,
    last_modified=-1.0,
    etag=b'W/"caf\xe9"',
)


@pytest.mark.parametrize(
    "stored",
    [
        stored_response(b""),
        stored_response(b"x" * 5000),
        FULL,
        stored_response(b"part", part=Part(10, 100)),
        stored_response(b"", fields=()),
        stored_response(bytes(100_000)),
        stored_response(
            fields=((b"Link", b"\xe2\x82\xac\t x"), (b"link", b"")), date=-5.0e9, born=-2.0e9, lifetime=0.0
        ),
    ],
    ids=repr,
)
@pytest.mark.parametrize("compress_above", [None, 1, 1000])
def test_what_was_stored_comes_back(stored: StoredResponse, compress_above: int | None) -> None:
    assert decode(KEY, encode(KEY, stored, compress_above=compress_above), NOW) == stored


TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
NAMES = st.from_regex(rb"\Ax-[a-z]{1,8}\Z")
VALUES = st.binary(max_size=30).filter(lambda value: value.translate(None, bytes(range(32)) + b"\x7f") == value)
SECONDS = st.floats(0, 2**31)


@given(
    body=st.one_of(st.binary(max_size=300), st.integers(0, 20_000).map(lambda n: b"ab" * n)),
    status=st.sampled_from([200, 203, 204, 301, 404, 410, 503]),
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=20),
    tags=st.lists(TEXT, max_size=10),
    times=st.tuples(SECONDS, st.floats(-1e9, NOW + 86_400), SECONDS, SECONDS, SECONDS),
    compress_above=st.sampled_from([None, 1, 500]),
)
@settings(max_examples=200, deadline=None)
def test_anything_that_can_be_stored_comes_back(
    body: bytes,
    status: int,
    fields: list[tuple[bytes, bytes]],
    tags: list[str],
    times: tuple[float, float, float, float, float],
    compress_above: int | None,
) -> None:
    date, born, lifetime, while_revalidating, on_error = times
    stored = stored_response(
        body,
        status=status,
        fields=tuple(fields),
        tags=tuple(tags),
        date=date,
        born=born,
        lifetime=lifetime,
        stale_while_revalidate=while_revalidating,
        stale_if_error=on_error,
    )

    assert decode(KEY, encode(KEY, stored, compress_above=compress_above), NOW) == stored


def test_every_term_but_the_refusal_is_kept() -> None:
    on_the_wire = set(cache_codec._Wire.__struct_fields__)

    assert set(Terms.__dataclass_fields__) - on_the_wire == {"refusal"}
    assert set(StoredResponse.__dataclass_fields__) - on_the_wire == {"terms"}


# --- compression ---


def test_long_bodies_are_compressed() -> None:
    stored = stored_response(JSON)

    assert len(encode(KEY, stored, compress_above=len(JSON))) < len(JSON) / 4
    assert len(encode(KEY, stored, compress_above=len(JSON) + 1)) > len(JSON)
    assert len(encode(KEY, stored, compress_above=None)) > len(JSON)


@pytest.mark.parametrize(
    "stored",
    [
        stored_response(JSON, fields=(*FIELDS, (b"content-encoding", b"gzip"))),
        stored_response(b"".join(blake2b(bytes([n])).digest() for n in range(200))),
        stored_response(b"a" + blake2b(b"").digest()[:40]),
    ],
    ids=["coded", "random", "short"],
)
def test_what_would_not_become_shorter_is_left_as_it_is(stored: StoredResponse) -> None:
    data = encode(KEY, stored, compress_above=1)

    assert stored.body in data
    assert decode(KEY, data, NOW) == stored


@pytest.mark.parametrize("length", [1000, 4095, 4096, 4097, 12_000])
def test_bodies_of_any_length_are_compressed(length: int) -> None:
    stored = stored_response(JSON[:length])

    data = encode(KEY, stored, compress_above=1)

    assert len(data) < length / 2
    assert decode(KEY, data, NOW) == stored


def test_body_that_begins_otherwise_than_it_goes_on_comes_back() -> None:
    noise = b"".join(blake2b(n.to_bytes(2, "big")).digest() for n in range(2000))
    stored = stored_response(JSON[:4096] + noise)

    assert decode(KEY, encode(KEY, stored, compress_above=1), NOW) == stored


def test_overhead_of_an_entry_is_small() -> None:
    stored = stored_response(b"x" * 1000)
    content = 1000 + sum(len(name) + len(value) for name, value in FIELDS)

    assert len(encode(KEY, stored, compress_above=None)) - content < 130


# --- nothing else comes back ---


def test_entry_of_another_key_is_bad() -> None:
    assert reason_of(encode(KEY, FULL, compress_above=None), b"x" * 16) == "checksum"


def test_key_and_payload_cannot_be_shifted_into_each_other() -> None:
    data = encode(b"key", FULL, compress_above=None)

    assert reason_of(data[:HEAD] + b"y" + data[HEAD:], b"ke") == "checksum"
    assert reason_of(data[:1] + blake2b(data[HEAD:], digest_size=16).digest() + data[HEAD:], b"key") == "checksum"


def test_every_truncation_is_bad() -> None:
    data = encode(KEY, FULL, compress_above=None)

    for length in range(len(data)):
        assert reason_of(data[:length]) in {"truncated", "checksum"}
    assert reason_of(data + b"\0") == "checksum"


def test_every_changed_bit_is_bad() -> None:
    data = bytearray(encode(KEY, FULL, compress_above=None))

    for position in range(len(data)):
        data[position] ^= 1
        assert reason_of(bytes(data)) == ("version" if position == 0 else "checksum")
        data[position] ^= 1


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_version_is_bad(version: int) -> None:
    assert reason_of(bytes([version]) + encode(KEY, FULL, compress_above=None)[1:]) == "version"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x01", b"{}", b"WRONGTYPE", pickle.dumps(FULL), b"\x01" + pickle.dumps(FULL), b"\0" * 1000, b"\xff" * 1000],
    ids=["empty", "version alone", "json", "text", "pickle", "pickle in version 1", "zeros", "ones"],
)
def test_foreign_bytes_are_bad(data: bytes) -> None:
    assert reason_of(data) in {"truncated", "version", "checksum"}


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        [],
        [1] * 20,
        payload()[:-1],
        [*payload(), 1],
        pickle.dumps(FULL),
        dict(zip(cache_codec._Wire.__struct_fields__, payload(), strict=True)),
        payload(status="200"),
        payload(status=200.5),
        payload(body="text"),
        payload(fields=[[b"Name"]]),
        payload(fields=[[b"Name", b"x", b"y"]]),
        payload(fields=[["Name", "x"]]),
        payload(length="2"),
        payload(part=[1]),
        payload(part=[1, 2, 3]),
        payload(tags=[b"bytes"]),
        payload(forbids_stale=1),
        payload(born=None),
        payload(vary=None),
    ],
)
def test_other_shapes_are_bad(content: Any) -> None:
    assert reason_of(seal(KEY, msgspec.msgpack.encode(content))) == "shape"


@pytest.mark.parametrize(
    "data",
    [b"\xc1", b"\x94\x01", b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xd9\x02\xff\xfe"],
    ids=["unused byte", "short array", "deeply nested", "huge array", "huge bytes", "no UTF-8"],
)
def test_hostile_encodings_are_bad(data: bytes) -> None:
    assert reason_of(seal(KEY, data)) == "shape"


INFINITE = float("inf")
NAN = float("nan")


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 0},
        {"status": -200},
        {"status": 100},
        {"status": 199},
        {"status": 600},
        {"status": 2**63},
        {"status": 206},
        {"status": 304},
        {"reason": b"OK\r\nSet-Cookie: a=b"},
        {"reason": b"\0"},
        {"fields": [[b"", b"x"]]},
        {"fields": [[b"A B", b"x"]]},
        {"fields": [[b"A:", b"x"]]},
        {"fields": [[b"A\r\nB", b"x"]]},
        {"fields": [[b"A", b"x\r\nSet-Cookie: a=b"]]},
        {"fields": [[b"A", b"x\n"]]},
        {"fields": [[b"A", b"\0"]]},
        {"fields": [[b"Connection", b"close"]]},
        {"fields": [[b"CONTENT-LENGTH", b"5"]]},
        {"fields": [[b"Transfer-Encoding", b"chunked"]]},
        {"fields": [[b"Upgrade", b"h2c"]]},
        {"fields": [[b"Keep-Alive", b"5"]]},
        {"fields": [[b"Trailer", b"x"]]},
        {"fields": [[b"TE", b"x"]]},
        {"fields": [[b"Proxy-Authenticate", b"x"]]},
        {"fields": [[b"Age", b"1"]]},
        {"fields": [[b"Content-Range", b"bytes 0-1/2"]]},
        {"fields": [[b"A", b"x"]] * 130},
        {"date": NAN},
        {"date": INFINITE},
        {"born": NAN},
        {"born": -INFINITE},
        {"born": -1e12},
        {"born": NOW + 86_401},
        {"lifetime": -1.0},
        {"lifetime": INFINITE},
        {"lifetime": NAN},
        {"stale_while_revalidate": -0.1},
        {"stale_while_revalidate": INFINITE},
        {"stale_if_error": NAN},
        {"stale_if_error": -5},
        {"fill_seconds": -1.0},
        {"fill_seconds": INFINITE},
        {"last_modified": NAN},
        {"last_modified": INFINITE},
        {"etag": b'"a"\r\nX: y'},
        {"vary": [b"*"], "variant": bytes(16)},
        {"vary": [b"Origin"], "variant": bytes(16)},
        {"vary": [b"b", b"a"], "variant": bytes(16)},
        {"vary": [b"a", b"a"], "variant": bytes(16)},
        {"vary": [b"a b"], "variant": bytes(16)},
        {"vary": [b""], "variant": bytes(16)},
        {"vary": [b"a"], "variant": b""},
        {"vary": [b"a"], "variant": bytes(15)},
        {"vary": [], "variant": bytes(16)},
        {"vary": [b"x-%03d" % n for n in range(200)], "variant": bytes(16)},
        {"part": [-1, 10]},
        {"part": [0, 2]},
        {"part": [9, 10]},
        {"part": [5, 6]},
        {"part": [0, 10], "body": b""},
        {"part": [0, 10], "status": 404},
        {"tags": ["a"] * 2000},
        {"length": -1},
        {"length": MAX_BODY + 1},
        {"length": 2**62},
        {"length": 2},
        {"length": 2, "body": b""},
        {"length": 2, "body": zlib.compress(b"{}")},
    ],
    ids=repr,
)
def test_values_that_nobody_stores_are_bad(changes: dict[str, Any]) -> None:
    assert reason_of(entry(**changes)) == "value"


@pytest.mark.parametrize(
    "changes",
    [
        {"born": NOW + 86_399},
        {"born": -(2.0**31)},
        {"date": -1e9},
        {"last_modified": -1e10},
        {"part": [8, 10]},
        {"part": [0, 3]},
        {"reason": b""},
        {"fields": [[b"A", b"x"]] * 129},
        {"fields": [[b"X_Name", b"x"]]},
        {"fields": [[b"transfer_encoding", b"chunked"]]},
        {"lifetime": 60},
        {"vary": [b"a", b"b"], "variant": bytes(16)},
        {"status": 599},
    ],
    ids=repr,
)
def test_odd_values_that_an_upstream_may_send_are_no_reason_to_refuse(changes: dict[str, Any]) -> None:
    assert decode(KEY, entry(**changes), NOW).body == b"{}"


def deflated(data: bytes) -> bytes:
    return zlib.compress(data, 9, -15)


@pytest.mark.parametrize("length", [0, 1, 999, 1001, 10**6])
def test_body_of_another_length_than_declared_is_bad(length: int) -> None:
    assert reason_of(entry(body=deflated(bytes(1000)), length=length)) == "value"
    assert decode(KEY, entry(body=deflated(bytes(1000)), length=1000), NOW).body == bytes(1000)


def test_compressed_body_that_is_cut_or_goes_on_is_bad() -> None:
    body = deflated(JSON)

    for changed in (body[:-1], body + b"x", body + body):
        assert reason_of(entry(body=changed, length=len(JSON))) == "value"


@pytest.mark.parametrize("length", [0, 1000])
def test_no_more_is_unpacked_than_declared(length: int) -> None:
    bomb = deflated(bytes(50 * 1024 * 1024))
    data = entry(body=bomb, length=length)
    tracemalloc.start()

    assert reason_of(data) == "value"

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(bomb)


def test_body_over_the_limit_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_codec, "MAX_BODY", 1000)

    assert reason_of(entry(body=bytes(1001))) == "value"
    assert decode(KEY, entry(body=bytes(1000)), NOW).body == bytes(1000)


# --- fuzz ---


def read(data: bytes) -> StoredResponse | None:
    """As the proxy does: a response or BadEntry, and no other exception."""
    try:
        return decode(KEY, data, NOW)
    except BadEntry:
        return None


@given(st.binary(max_size=400))
def test_any_bytes_are_bad(data: bytes) -> None:
    assert read(data) is None
    assert read(b"\x01" + data) is None


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_any_payload_with_the_right_checksum_is_bad(data: bytes) -> None:
    assert read(seal(KEY, data)) is None


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(cache_codec._Wire.__struct_fields__), VALUE, min_size=1, max_size=4))
@settings(max_examples=500, deadline=None)
def test_any_values_give_a_harmless_response_or_none(changes: dict[str, Any]) -> None:
    found = read(entry(**changes))

    if found is not None:
        assert 200 <= found.status < 600
        assert all(b"\r" not in part and b"\n" not in part for field in found.fields for part in field)
        assert found.terms.born <= NOW + 86_400
        assert encode(KEY, found, compress_above=None)


@given(st.data())
@settings(max_examples=300)
def test_any_change_of_a_payload_gives_a_harmless_response_or_none(data: st.DataObject) -> None:
    content = bytearray(encode(KEY, FULL, compress_above=None)[HEAD:])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))

    found = read(seal(KEY, bytes(content)))

    assert found is None or all(b"\n" not in part for field in found.fields for part in field)


def test_refusal_is_not_kept() -> None:
    stored = stored_response()
    stored.terms = replace(stored.terms, refusal="no_store")

    assert decode(KEY, encode(KEY, stored, compress_above=None), NOW).terms.refusal == ""
