"""Files appear whole or not at all, and failures tell the name that was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.errors import UnwritableError, UserError
from torana.gateway.engines.output import ClientOutput


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    dest = tmp_path / "out"
    dest.write_bytes(b"old")
    with ClientOutput(str(dest)).file() as file:
        file.write(b"new")
        assert dest.read_bytes() == b"old"
    assert dest.read_bytes() == b"new"
    assert dest.stat().st_mode & 0o777 == 0o644


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    dest = tmp_path / "out"
    dest.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), ClientOutput(str(dest)).file() as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert dest.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("dest", "reason"),
    [
        ("/proc/out.tar", "no such file or directory"),
        ("/dev/null/out.tar", "not a directory"),
        ("/dev/full", "no space left on device"),
    ],
)
def test_places_that_cannot_be_written_to(dest: str, reason: str) -> None:
    with pytest.raises(UnwritableError) as caught, ClientOutput(dest).file() as file:
        file.write(b"x" * 100_000)
    assert caught.value.message == f"cannot write `{dest}`: {reason}"
    assert caught.value.hint


def test_folders(tmp_path: Path) -> None:
    assert ClientOutput(str(tmp_path / "a/b")).directory().is_dir()
    with pytest.raises(UnwritableError, match="cannot write `/proc/out`"):
        ClientOutput("/proc/out").directory()
    with pytest.raises(UserError, match="is no folder"):
        ClientOutput("/dev/null").directory()
    with (
        pytest.raises(UserError, match="is a folder"),
        ClientOutput(str(tmp_path)).file(),
    ):
        pass
