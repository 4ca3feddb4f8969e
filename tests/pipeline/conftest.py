"""Every pipeline test is checked for leaks."""

import pytest


@pytest.fixture(autouse=True)
def nothing_left_behind(leak_check: None) -> None:
    """Around all other fixtures of the test, so that it looks after they have ended."""
