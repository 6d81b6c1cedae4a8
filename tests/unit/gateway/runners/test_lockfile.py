"""Lock files: read, changed, written, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from torana.core.errors import NotFoundError
from torana.gateway.runners.lockfile import InvalidLockError, LockedFrontend, Wheel, read_lock

ONE = Wheel("torana-lua", "1.0", "a" * 64, "torana_lua-1.0-py3-none-any.whl")
OTHER = Wheel("greetings", "2.0", "b" * 64, "greetings-2.0-py3-none-any.whl")
LUA = LockedFrontend("torana-lua", "1.0", (OTHER, ONE))


def test_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "torana.lock"
    path.write_text('{"images": {"a": 1}}')
    read_lock(path).with_frontends([LUA]).write()
    found = read_lock(path)
    assert found.find("Torana_Lua", "1.0") == LUA
    assert json.loads(path.read_text())["images"] == {"a": 1}
    newer = LockedFrontend("torana-lua", "1.0", (ONE,))
    assert found.with_frontends([newer]).frontends == (newer,)
    assert list(tmp_path.iterdir()) == [path]


def test_missing_entry_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"not in torana\.lock: `pypi:x==1`") as caught:
        read_lock(tmp_path / "torana.lock").find("x", "1")
    assert caught.value.hint == "`torana frontend lock pypi:x==1` adds it"


def test_same_wheels_share_an_environment() -> None:
    assert LUA.id == LockedFrontend("Torana.Lua", "1.0", (ONE, OTHER)).id
    assert LUA.id != LockedFrontend("torana-lua", "1.0", (ONE,)).id
    assert LUA.requirements().splitlines()[0] == f"greetings==2.0 --hash=sha256:{'b' * 64}"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"frontends": [{}]}',
        '{"frontends": [{"distribution": "x", "version": "1", "wheels": '
        '[{"name": "x", "version": "1", "sha256": "short"}]}]}',
    ],
)
def test_malformed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "torana.lock"
    path.write_text(text)
    with pytest.raises(InvalidLockError, match=r"torana\.lock: malformed"):
        read_lock(path)
