"""Tidegate inside the test's own process and loop: what most tests use, since coverage sees it."""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import time

from proxy.app import App
from tests.support.instance import Instance
from tests.support.settings import complete


class RunningApp(Instance):
    """An instance whose insides can be looked at through `app`."""

    def __init__(self, app: App, folder: Path) -> None:
        super().__init__(folder, app.port, app.admin_port)
        self.app = app

    def _completed(self, text: str) -> str:
        return complete(text, self.folder)


@contextlib.asynccontextmanager
async def running_app(policies: str, *, wall: Callable[[], float] = time) -> AsyncIterator[RunningApp]:
    """Start the app with this policies.yaml, on free ports where it names none, and stop it in the end.

    `wall` is the clock that the cache goes by, in Unix seconds.
    """
    with tempfile.TemporaryDirectory(prefix="tidegate-") as name:
        folder = Path(name)
        file = folder / "policies.yaml"
        file.write_text(complete(policies, folder))
        app = App(file, wall=wall)
        await app.start()
        try:
            yield RunningApp(app, folder)
        finally:
            await app.stop()
