"""A new admin token, or another allowlist, counts from the reload on: a leaked token must not live until a restart."""

from tests.support.app import running_app
from tests.support.client import fetch
from tests.support.settings import policies
from tests.support.upstream import ScriptedUpstream


async def test_old_token_is_refused_after_the_reload() -> None:
    async with ScriptedUpstream() as upstream, running_app(with_token(upstream, "old")) as app:
        await reload(app.admin_port, "old", 200)
        app.write_exactly(with_token(upstream, "new", admin_port=app.admin_port))
        await reload(app.admin_port, "old", 200)

        await reload(app.admin_port, "old", 401)
        await reload(app.admin_port, "new", 200)


def with_token(upstream: ScriptedUpstream, token: str, admin_port: int = 0) -> str:
    admin = {"listen": f"127.0.0.1:{admin_port}", "token": token}
    return policies(upstream.url, server={"listen": "127.0.0.1:0", "admin": admin})


async def reload(admin_port: int, token: str, expected: int) -> None:
    answer = await fetch(admin_port, "POST", "/reload", {"Authorization": f"Bearer {token}"})
    assert answer.status == expected
