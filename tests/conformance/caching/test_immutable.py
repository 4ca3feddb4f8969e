"""Responses that do not change while they are fresh: RFC 8246."""

import pytest

from tests.support.cache_site import cache_site

IMMUTABLE = {"Cache-Control": "max-age=3600, immutable", "ETag": '"a"'}


async def is_answered(control: str, request: dict[str, str], *, later: float = 10) -> bool:
    async with cache_site() as site:
        site.serve({"Cache-Control": control, "ETag": '"a"'})
        await site.get()
        site.later(later)
        return await site.is_hit(headers=request)


@pytest.mark.parametrize(
    "control",
    [
        "max-age=3600, immutable",
        "immutable, max-age=3600",
        "max-age=3600, Immutable",
        "max-age=3600, immutable=1",
        'max-age=3600, immutable="no"',
        "max-age=3600, immutable=0",
        "immutable, max-age=3600, immutable",
    ],
)
@pytest.mark.requirement("8246-2.1-1", "8246-2-1")
async def test_fresh_immutable_response_is_not_validated_on_reload(control: str) -> None:
    assert await is_answered(control, {"Cache-Control": "max-age=0"})


@pytest.mark.parametrize("request_fields", [{"Cache-Control": "no-cache"}, {"Pragma": "no-cache"}], ids=str)
@pytest.mark.requirement("8246-2.1-2", "9111-5.2.1.4-1")
async def test_client_can_have_it_validated(request_fields: dict[str, str]) -> None:
    assert not await is_answered("max-age=3600, immutable", request_fields)


@pytest.mark.parametrize("request_fields", [{}, {"Cache-Control": "max-age=0"}], ids=str)
@pytest.mark.requirement("8246-2-2")
async def test_stale_immutable_response_is_validated(request_fields: dict[str, str]) -> None:
    assert not await is_answered("max-age=3600, immutable", request_fields, later=3601)


@pytest.mark.parametrize("control", ["immutable", "immutable, no-cache", "immutable, no-store, max-age=3600"])
@pytest.mark.requirement("8246-2-2")
async def test_immutable_alone_is_no_freshness(control: str) -> None:
    assert not await is_answered(control, {}, later=0)


@pytest.mark.requirement("8246-2-3")
async def test_immutable_in_a_request_means_nothing() -> None:
    assert not await is_answered("max-age=3600", {"Cache-Control": "max-age=0, immutable"})


@pytest.mark.requirement("8246-2.1-1", "9111-4.3.2-1")
async def test_conditional_reload_is_answered_by_304() -> None:
    async with cache_site() as site:
        await site.stored(IMMUTABLE)
        site.later(10)

        answer = await site.get(headers={"Cache-Control": "max-age=0", "If-None-Match": '"a"'})

        assert (answer.status, site.fills) == (304, 1)
