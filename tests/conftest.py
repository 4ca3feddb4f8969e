"""Fixtures of all tests, and where a test goes.

unit/         pure code (resilience, protocol, config): no event loop, table driven, mirrors proxy/
policies/     one policy around a scripted upstream, one file each
pipeline/     several policies together, named by behaviour: deadlines, streaming_bodies, reload
integration/  the whole app on real sockets, the child process, faults; each test is checked for leaks
conformance/  what an RFC says, as a table of cases
properties/   hypothesis: round trips, state machines
regressions/  one bug each
packaging/    the files we ship: policies.yaml, schema, examples, image
support/      helpers, no tests; unit/support/ tests them

Async tests run on uvloop, as production does; `@pytest.mark.both_loops` runs one on plain asyncio as well.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.support.certificates import Certificates
from tests.support.leaks import no_leaks
from tests.support.valkey import Valkey, running_valkey

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.SelectorEventLoop,
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_loops: run the async test on uvloop and on plain asyncio")
    config.addinivalue_line("markers", "requirement(*ids): what it covers of tests/support/requirements.py")


def pytest_collection_finish() -> None:
    """Keep what was imported out of the garbage collections of the leak checks: they take a tenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """pytest-asyncio's hook: the loops that a test runs on."""
    return LOOPS if item.get_closest_marker("both_loops") else {"uvloop": LOOPS["uvloop"]}


@pytest.fixture
async def leak_check() -> AsyncIterator[None]:
    """Fail the test when it leaves tasks, file descriptors or unheard errors behind."""
    async with no_leaks():
        yield


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Redis that all tests share: each keeps to a key prefix of its own and leaves the server as it is."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Redis of this test's own, to kill, stop, fill and flush."""
    with running_valkey(tmp_path / "valkey") as valkey:
        yield valkey
