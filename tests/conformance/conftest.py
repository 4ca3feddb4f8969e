"""Every test is checked for leaks, and for errors in the log: whatever clients send, it is no bug of ours."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_left_behind(leak_check: None, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Around all other fixtures of the test, so that it looks after they have ended."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []
