"""A variable fits wherever the file takes a number, and no message shows what it holds."""

from pathlib import Path

import pytest

from tests.support.policies import ROUTES, UPSTREAMS, problems_of, with_route

ENV = {"NUMBER": "300", "CANARY": "canary"}


@pytest.mark.parametrize(
    "setting", ["bulkhead: {max_queued: '${NUMBER}'}", "fallback: [{static: {status: '${NUMBER}'}}]"]
)
def test_number_may_come_from_the_environment(tmp_path: Path, setting: str) -> None:
    assert problems_of(tmp_path, with_route(setting), ENV) == []


@pytest.mark.parametrize(
    "setting", ["breaker: '${CANARY}'", "bulkhead: '${CANARY}'", "fallback: [{upstream: '${CANARY}'}]"]
)
def test_name_of_nothing_is_not_shown_when_it_comes_from_the_environment(tmp_path: Path, setting: str) -> None:
    (problem,) = problems_of(tmp_path, with_route(setting), ENV)

    assert "the value from the environment is not" in problem
    assert "canary" not in problem


@pytest.mark.parametrize("password", ["12/canary", "canary/1", "can@ary"])
@pytest.mark.parametrize("kind", ["redis+sentinel", "redis", "redis+cluster"])
def test_password_that_is_not_encoded_is_refused_and_never_taken_for_another_part(
    tmp_path: Path, kind: str, password: str
) -> None:
    (problem,) = problems_of(tmp_path, f"{UPSTREAMS}redis: {kind}://user:{password}@host\n{ROUTES}")

    assert "is not the URL of a Redis server" in problem
    assert "canary" not in problem
