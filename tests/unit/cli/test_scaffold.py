"""Projects that `torana frontend new` could not finish."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from torana.cli.scaffold import write_scaffold
from torana.core.errors import ToranaError


@pytest.mark.parametrize("is_there", [False, True])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    folder = tmp_path / "graph"
    if is_there:
        folder.mkdir()
    write = Path.write_text
    written: list[Path] = []

    def fill(path: Path, *arguments: Any) -> int:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        return write(path, *arguments)

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(ToranaError, match="cannot write"):
        write_scaffold("graph", folder)
    assert len(written) == 5
    assert [path.name for path in tmp_path.rglob("*")] == (["graph"] if is_there else [])
    monkeypatch.setattr(Path, "write_text", write)
    assert (folder / "pyproject.toml") in write_scaffold("graph", folder)
