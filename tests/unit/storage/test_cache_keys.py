"""Names in Redis: one slot, no words of clients."""

from redis.crc import key_slot

from proxy.storage.cache_keys import CacheKeys

KEY = bytes(range(16))


def test_all_names_are_in_one_slot_of_a_cluster() -> None:
    keys = CacheKeys(b"shop:cache")
    names = [
        keys.response(KEY),
        keys.variant(KEY, KEY),
        keys.lease(KEY),
        keys.server,
        *keys.generations(["*", "property:1"]),
    ]

    assert {key_slot(name) for name in names} == {key_slot(b"shop:cache")}
    assert len(set(names)) == len(names)


def test_names_are_plain_whatever_is_in_keys_and_tags() -> None:
    keys = CacheKeys(b"shop:cache")
    hostile = [keys.response(b"}{\r\n"), *keys.generations(["a b\r\nFLUSHALL", "\udcff", "é}", ""])]

    for name in hostile:
        space, _, rest = name.decode("ascii").rpartition(":")
        assert space in ("{shop:cache}:r1", "{shop:cache}:g")
        assert set(rest) <= set("0123456789abcdef")


def test_prefixes_are_worlds_apart() -> None:
    one, two = CacheKeys(b"a:cache"), CacheKeys(b"b:cache")

    assert one.response(KEY) != two.response(KEY)
    assert one.generations(["*"]) != two.generations(["*"])
    assert {one.purges, one.wakes, one.server}.isdisjoint({two.purges, two.wakes, two.server})
