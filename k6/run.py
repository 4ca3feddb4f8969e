"""`python k6/run.py smoke`: starts stub and sidecar on free ports, lets k6 load them, stops both.

The exit status is k6's: 0 when all thresholds held, 99 when one was crossed; 1 when stub or sidecar did not start.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from upstream_stub.processes import StartFailed, service, sidecar, wait_until_ready

HERE = Path(__file__).parent
POLICIES = HERE.parent / "policies.yaml"
OUT = HERE / "out"
HOST = "127.0.0.1"


def main() -> int:
    """Runs one script."""
    options = _parse_options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with service() as upstream:
            if options.fault:
                _order_fault(upstream, options.fault)
            if options.direct:
                return _run_k6(options, upstream)
            with _sidecar(upstream) as url:
                return _run_k6(options, url)
    except StartFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="k6/run.py", description="A k6 script against stub and sidecar.")
    parser.add_argument("script", choices=sorted(path.stem for path in HERE.glob("*.js")))
    parser.add_argument("--duration", default="30s", help="for example 10s or 5m")
    parser.add_argument("--rate", type=int, default=100, help="requests a second")
    parser.add_argument("--fault", metavar="FAULT", help="what the stub does wrong, for example status=500")
    parser.add_argument("--direct", action="store_true", help="leave the sidecar out, to compare")
    return parser.parse_args()


def _order_fault(upstream: str, fault: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=10)
    connection.request("POST", "/admin/faults", json.dumps({"fault": fault}), {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    if status != http.client.OK:
        raise StartFailed("the stub does not know this fault: see docs/stub.md")


@contextmanager
def _sidecar(upstream: str) -> Iterator[str]:
    """The sidecar by the root's policies on free ports; the value is its URL."""
    port, admin, health = _free_ports(3)
    policies = yaml.safe_load(POLICIES.read_text(encoding="utf-8"))
    policies["server"] = {
        **(policies.get("server") or {}),
        "listen": f"{HOST}:{port}",
        "admin": f"{HOST}:{admin}",
        "health": f"{HOST}:{health}",
        "trusted_proxies": [HOST],  # k6 plays many clients: each says by X-Forwarded-For who it is
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policies.yaml")
        path.write_text(yaml.safe_dump(policies, sort_keys=False), encoding="utf-8")
        with sidecar(path, upstream, output=subprocess.DEVNULL) as process:
            wait_until_ready(process, HOST, health)
            yield f"http://{HOST}:{port}"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def _run_k6(options: argparse.Namespace, url: str) -> int:
    beside_python = Path(sys.executable).with_name("k6")
    k6 = str(beside_python) if beside_python.exists() else shutil.which("k6")
    if k6 is None:
        raise StartFailed("k6 is not installed: make install")
    OUT.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "K6_NO_USAGE_REPORT": "true",
        "BASE_URL": url,
        "DURATION": options.duration,
        "RATE": str(options.rate),
        "SUMMARY": str(OUT / f"{options.script}.json"),
    }
    command = [k6, "run", "--quiet", str(HERE / f"{options.script}.js")]
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - the command is ours


if __name__ == "__main__":
    sys.exit(main())
