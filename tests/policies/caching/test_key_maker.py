from typing import Any

import pytest

from proxy.config.caching import CacheConfig
from proxy.config.model import HeaderEdit, HeaderEdits, RouteConfig
from proxy.policies.caching.key_maker import key_maker
from proxy.protocol.caching.keys import CacheKey


def digest(**route: Any) -> bytes:
    maker = key_maker(
        RouteConfig(**{"name": "one", "match": ("GET /a",), "upstream": "api", "cache": CacheConfig(), **route})
    )
    assert maker is not None
    key = maker.make("a.example", "http", "/a", None, {})
    assert isinstance(key, CacheKey)
    return key.digest


@pytest.mark.parametrize(
    "change",
    [
        {"name": "two"},
        {"upstream": "other"},
        {"cache": CacheConfig(tags=("a:b",))},
        {"rewrite": "/b"},
        {"headers": HeaderEdits(request=HeaderEdit(set={"X-Tenant": "2"}))},
        {"headers": HeaderEdits(request=HeaderEdit(remove=("X-Tenant",)))},
        {"cache": CacheConfig(vary=("X-Tenant",))},
        {"cache": CacheConfig(set_cookie="store")},
        {"cache": CacheConfig(per_user=("header:X-User",))},  # type: ignore[arg-type]
        {"cache": CacheConfig(respect_origin=False, ttl=1.0)},
    ],
)
def test_what_was_stored_by_other_rules_has_other_keys(change: dict[str, Any]) -> None:
    assert digest(**change) != digest()


@pytest.mark.parametrize(
    "change",
    [
        {"cache": CacheConfig(ttl=60.0, stale_if_error=60.0, max_body=10)},
        {"headers": HeaderEdits(response=HeaderEdit(set={"X-Served-By": "us"}))},
    ],
)
def test_what_changes_no_response_keeps_what_is_stored(change: dict[str, Any]) -> None:
    assert digest(**change) == digest()


def test_route_without_a_cache_has_no_keys() -> None:
    assert key_maker(RouteConfig(name="one", match=("GET /a",), upstream="api")) is None
