"""CPU that the upstream client alone needs per request: no edge, no policies, an origin in a process of its own.

python -m bench.upstream_client [requests] [concurrency]
"""

import asyncio
import socket
import subprocess
import sys
from random import Random
from time import process_time

import uvloop
from multidict import CIMultiDict

from proxy.config.model import RouteConfig, UpstreamConfig
from proxy.config.policies import TimeoutConfig
from proxy.config.types import UpstreamUrl
from proxy.exchange import Exchange, Request
from proxy.protocol.request_checks import CheckedFields
from proxy.telemetry.instruments import UpstreamMetrics
from proxy.upstream.client import Upstream

ROUTE = RouteConfig(name="bench", match=("GET /*",), upstream="bench", timeout=TimeoutConfig())
HEADERS = [
    (b"Host", b"api.example"),
    (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    (b"Accept", b"application/json"),
    (b"Accept-Encoding", b"gzip, deflate, br"),
    (b"Authorization", b"Bearer 0123456789abcdef0123456789abcdef"),
    (b"Cookie", b"session=0123456789abcdef"),
]
FORWARDED = [
    (b"Via", b"1.1 tidegate"),
    (b"X-Forwarded-For", b"192.0.2.1"),
    (b"X-Forwarded-Proto", b"http"),
]
FIELDS = CheckedFields(HEADERS)
VIEW = CIMultiDict((name.decode(), value.decode()) for name, value in HEADERS)


def main() -> None:
    """Print microseconds of CPU per request of this process, the best of several rounds."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    concurrency = int(sys.argv[2]) if len(sys.argv) > 2 else 32
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    origin = subprocess.Popen([sys.executable, "-m", "bench.origin", str(port), "x" * 512])
    try:
        best = uvloop.run(measure(port, requests, concurrency))
    finally:
        origin.terminate()
        origin.wait()
    print(f"{best:.1f} µs CPU per request ({requests} requests, {concurrency} at a time)")


async def measure(port: int, requests: int, concurrency: int) -> float:
    """The best of five rounds."""
    loop = asyncio.get_running_loop()
    await _listening(port)
    config = UpstreamConfig(name="bench", endpoints=(UpstreamUrl("http", "127.0.0.1", port),))
    upstream = Upstream(config, loop=loop, observer=UpstreamMetrics("bench"), random=Random(1))
    rounds = []
    for _ in range(5):
        started = process_time()
        await asyncio.gather(*(_run(upstream, requests // concurrency) for _ in range(concurrency)))
        rounds.append((process_time() - started) / requests * 1e6)
    await upstream.close()
    return min(rounds)


async def _run(upstream: Upstream, count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        exchange = Exchange(Request("GET", "/properties/1", FIELDS, VIEW, "api.example"), ROUTE, loop.time())
        exchange.deadline = exchange.attempt_deadline = loop.time() + 30
        exchange.forwarded = FORWARDED
        exchange.request_id = "0123456789abcdef0123456789abcdef"
        exchange.attempt = 1
        (await upstream.handle(exchange)).close()


async def _listening(port: int) -> None:
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


if __name__ == "__main__":
    main()
