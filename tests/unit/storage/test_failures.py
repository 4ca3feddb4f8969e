"""What redis-py raises becomes one word."""

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from proxy.storage.errors import REFUSING, UNREACHABLE, StoreError
from proxy.storage.failures import FAILURES, NotConnected, store_error

SAID = {
    "OOM command not allowed when used memory > 'maxmemory'.": "oom",
    "READONLY You can't write against a read only replica.": "readonly",
    "LOADING Redis is loading the dataset in memory": "loading",
    "BUSY Redis is busy running a script.": "busy",
    "NOAUTH Authentication required.": "noauth",
    "WRONGPASS invalid username-password pair or user is disabled.": "noauth",
    "ERR invalid password": "noauth",
    "NOPERM this user has no permissions to run the 'evalsha' command": "noperm",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": "misconf",
    "WRONGTYPE Operation against a key holding the wrong kind of value script: 5bc, on @user_script:1.": "wrongtype",
    "ERR max number of clients reached": "maxclients",
    "CLUSTERDOWN The cluster is down": "clusterdown",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "masterdown",
    "NOREPLICAS Not enough good replicas to write.": "noreplicas",
    "TRYAGAIN Multiple keys request during rehashing of slot": "clusterdown",
    "ERR Error running script (call to f_5bc): @user_script:1: -OOM command not allowed": "oom",
    "ERR Error running script (call to f_5bc): @user_script:1: -READONLY You can't write": "readonly",
    "ERR user_script:1: attempt to index a nil value script: 5bc, on @user_script:1.": "error",
}


@pytest.mark.parametrize(("said", "outcome"), SAID.items(), ids=[text[:30] for text in SAID])
def test_the_servers_words_are_known(said: str, outcome: str) -> None:
    error = store_error(BaseParser.parse_error(said))  # type: ignore[no-untyped-call]

    assert error.outcome == outcome


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (TimeoutError(), "timeout"),
        (exceptions.TimeoutError("Timeout connecting to server"), "timeout"),
        (exceptions.ConnectionError("Connection closed by server."), "lost"),
        (exceptions.ConnectionError("The previous master is now a slave"), "readonly"),
        (ConnectionResetError(), "lost"),
        (exceptions.InvalidResponse("Protocol Error: b'HTTP'"), "protocol"),
        (NotConnected(exceptions.ConnectionError("Error 111 connecting")), "refused"),
        (NotConnected(exceptions.ResponseError("DB index is out of range")), "refused"),
        (NotConnected(exceptions.AuthenticationError("invalid")), "noauth"),
        (NotConnected(exceptions.TimeoutError("Timeout connecting to server")), "timeout"),
        (NotConnected(OSError("no route")), "refused"),
    ],
)
def test_what_happens_to_connections_is_known(raised: Exception, outcome: str) -> None:
    assert isinstance(raised, FAILURES)
    assert store_error(raised).outcome == outcome


def test_a_store_error_stays_what_it_is() -> None:
    error = StoreError("unavailable")

    assert store_error(error) is error


def test_a_word_says_one_thing_about_the_server() -> None:
    assert not UNREACHABLE & REFUSING


def test_the_message_begins_with_the_word() -> None:
    assert str(StoreError("oom", "used memory")) == "oom: used memory"
    assert str(StoreError("oom")) == "oom"
