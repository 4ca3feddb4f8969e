"""Whose response it is: what is read from a request, and what a purge by the same values means."""

import pytest

from proxy.config.caching import CacheConfig
from proxy.policies.caching.user import user_of, user_reader
from tests.support.exchange import make_exchange

ONE = CacheConfig.model_validate({"per_user": "header:X-User-ID"}).per_user
TWO = CacheConfig.model_validate({"per_user": ("header:X-User-ID", "header:X-Tenant")}).per_user


def test_without_keys_there_are_no_users() -> None:
    assert user_reader(()) is None


@pytest.mark.parametrize(("fields", "user"), [({"X-User-ID": "ada"}, b"ada"), ({"X-User-ID": ""}, None), ({}, None)])
def test_one_key_is_read_as_it_is(fields: dict[str, str], user: bytes | None) -> None:
    read = user_reader(ONE)

    assert read is not None
    assert read(make_exchange(headers=fields)) == user
    assert user is None or user_of(ONE, ["ada"]) == user


def test_several_keys_cannot_pass_for_others() -> None:
    read = user_reader(TWO)
    assert read is not None

    def user(name: str, tenant: str) -> bytes | None:
        return read(make_exchange(headers={"X-User-ID": name, "X-Tenant": tenant}))

    assert user("a", "b1:c") == user_of(TWO, ["a", "b1:c"])
    assert len({user("ab", "c"), user("a", "bc"), user("a", "b"), user("b", "a")}) == 4
    assert user("a", "") is None
    assert read(make_exchange(headers={"X-Tenant": "b"})) is None


def test_address_is_read_as_limits_read_it() -> None:
    keys = CacheConfig.model_validate({"per_user": "client_ip"}).per_user
    read, exchange = user_reader(keys), make_exchange()
    exchange.client_ip = "2001:db8::1"

    assert read is not None
    assert read(exchange) == user_of(keys, ["2001:db8::1"])
