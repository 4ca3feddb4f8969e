"""Scripts come with the package."""

import hashlib
from pathlib import Path

import pytest

import proxy.storage
from proxy.storage.script import Script, load_script

FOLDER = Path(proxy.storage.__file__).parent / "scripts"


def test_a_script_has_the_name_of_its_file() -> None:
    script = load_script("instances")

    assert script.name == "instances"
    assert script.text == (FOLDER / "instances.lua").read_bytes()
    assert not script.reads_only


def test_redis_knows_it_by_the_digest_of_its_text() -> None:
    script = Script("one", "return 1", reads_only=True)

    assert script.sha == hashlib.sha1(b"return 1", usedforsecurity=False).hexdigest().encode()
    assert script.reads_only
    assert repr(script) == "<Script one>"


def test_an_unknown_script_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        load_script("nothing")


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.lua")), ids=lambda file: file.stem)
def test_no_script_looks_through_all_keys_or_empties_the_database(file: Path) -> None:
    text = file.read_text(encoding="utf-8").upper()

    for command in ("'KEYS'", "'SCAN'", "'FLUSHALL'", "'FLUSHDB'"):
        assert command not in text
