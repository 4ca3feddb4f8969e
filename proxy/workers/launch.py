"""Starts the process of a worker: a fresh interpreter, which inherits sockets and nothing else."""

import socket
import subprocess
import sys
from pathlib import Path

import proxy
from proxy.server.shared_port import SharedPort

_PACKAGE_PARENT = Path(proxy.__file__).parents[1]


def launch(index: int, channel: socket.socket, port: SharedPort) -> "subprocess.Popen[bytes]":
    """Start worker `index` with its end of the control channel and the data port. Raises OSError."""
    inherited = [sock.fileno() for sock in (channel, *port.own, *port.others)]
    numbers = map(str, (index, len(port.own), *inherited))
    command = [sys.executable, *_interpreter_options(), "-m", "proxy.workers.worker", *numbers]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        pass_fds=inherited,
        stdin=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C in a terminal is for the supervisor, which tells the workers
    )


def _interpreter_options() -> list[str]:
    """The options with which this interpreter was started, as far as they change what the code does."""
    flags = sys.flags
    options = ["-" + "O" * flags.optimize] if flags.optimize else []
    if flags.isolated:
        options.append("-I")
    elif Path.cwd() != _PACKAGE_PARENT:
        options.append("-P")  # a folder named proxy in the working directory is none of ours
    if flags.dev_mode:
        options += ["-X", "dev"]
    return options + [f"-W{warning}" for warning in sys.warnoptions]
