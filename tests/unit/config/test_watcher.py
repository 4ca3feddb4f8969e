"""Noticing new content: edits, renames, ConfigMap swaps; and not noticing what is none."""

# ruff: noqa: ASYNC240 - the files are small, and the test waits for nothing else

import asyncio
import os
from pathlib import Path

import pytest

from proxy.config.watcher import FileWatcher

INTERVAL = 0.005


async def changes(watcher: FileWatcher) -> bool:
    """Whether the watcher reports a change soon."""
    try:
        await asyncio.wait_for(watcher.changed(), INTERVAL * 10)
    except TimeoutError:
        return False
    return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text("one")
    return path


async def test_an_edit_in_place_is_noticed_once(file: Path) -> None:
    watcher = FileWatcher(file, interval=INTERVAL)

    file.write_text("two!")

    assert await changes(watcher)
    assert not await changes(watcher)


async def test_an_edit_while_waiting_is_noticed(file: Path) -> None:
    watcher = FileWatcher(file, interval=INTERVAL)
    waiting = asyncio.create_task(watcher.changed())
    await asyncio.sleep(0)

    file.write_text("two!")

    await asyncio.wait_for(waiting, 5)


async def test_a_file_saved_by_rename_is_noticed(file: Path) -> None:
    watcher = FileWatcher(file, interval=INTERVAL)
    other = file.with_suffix(".tmp")
    other.write_text("two")

    other.replace(file)

    assert await changes(watcher)


async def test_a_touch_and_a_rewrite_of_the_same_text_are_ignored(file: Path) -> None:
    watcher = FileWatcher(file, interval=INTERVAL)

    os.utime(file, ns=(1, 1))
    file.write_text("one")

    assert not await changes(watcher)


async def test_a_configmap_swap_is_noticed_each_time(tmp_path: Path) -> None:
    for version in ("v1", "v2", "v3"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "policies.yaml").write_text(version)
    data, file = tmp_path / "..data", tmp_path / "policies.yaml"
    data.symlink_to("v1")
    file.symlink_to("..data/policies.yaml")
    watcher = FileWatcher(file, interval=INTERVAL)

    for version in ("v2", "v3"):
        fresh = tmp_path / "..data_tmp"
        fresh.symlink_to(version)
        fresh.replace(data)

        assert await changes(watcher)
        assert not await changes(watcher)


async def test_a_file_that_is_gone_for_a_moment_is_waited_for(file: Path) -> None:
    watcher = FileWatcher(file, interval=INTERVAL)

    file.unlink()
    assert not await changes(watcher)
    file.write_text("one")
    assert not await changes(watcher)
    file.write_text("two")
    assert await changes(watcher)


async def test_a_file_that_is_missing_at_first_is_noticed_when_it_comes(tmp_path: Path) -> None:
    watcher = FileWatcher(tmp_path / "policies.yaml", interval=INTERVAL)

    assert not await changes(watcher)
    (tmp_path / "policies.yaml").write_text("one")
    assert await changes(watcher)


async def test_what_cannot_be_read_is_no_change(file: Path) -> None:
    watcher = FileWatcher(file, interval=INTERVAL)

    file.unlink()
    file.mkdir()

    assert not await changes(watcher)


async def test_a_cancelled_wait_loses_no_change(file: Path) -> None:
    watcher = FileWatcher(file, interval=INTERVAL)
    assert not await changes(watcher)

    file.write_text("two")

    assert await changes(watcher)
