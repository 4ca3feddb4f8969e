"""An edit that was put in force by hand and taken back within a second stayed in force for good."""

from tests.support.app import running_app
from tests.support.client import fetch, get
from tests.support.settings import policies
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually


async def test_edit_that_is_taken_back_right_after_its_reload_is_taken_back() -> None:
    def version(url: str, number: int) -> str:
        return policies(url, route={"headers": {"response": {"set": {"X-Version": str(number)}}}})

    async with ScriptedUpstream() as upstream, running_app(version(upstream.url, 1)) as app:
        first = app.app.config()
        app.write_policies(version(upstream.url, 2))
        assert (await fetch(app.admin_port, "POST", "/reload")).status == 200
        assert (await get(app.port, "/")).header("X-Version") == "2"

        app.write_policies(version(upstream.url, 1))

        await eventually(lambda: app.app.config() == first)
        assert (await get(app.port, "/")).header("X-Version") == "1"
