"""Signals that arrive while the process is still starting."""

import asyncio
import os
import signal
from pathlib import Path

from proxy.app import App
from proxy.serve import _Signals


async def test_reload_and_log_rotation_wait_for_the_start(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    errors: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    _Signals(App(tmp_path / "policies.yaml"))

    for number in (signal.SIGHUP, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    handled = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, handled.set)
    os.kill(os.getpid(), signal.SIGUSR2)
    await handled.wait()

    assert errors == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
