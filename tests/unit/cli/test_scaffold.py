"""Projects that `torana frontend new` could not finish."""

from __future__ import annotations

import ast
import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from torana.cli.scaffold import write_scaffold
from torana.core.errors import ToranaError

ROOT = Path(__file__).resolve().parents[3]


def test_it_imports_what_is_public(tmp_path: Path) -> None:
    page = (ROOT / "docs/api-policy.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith("| modules |"))
    public = {*re.findall(r"`(torana[\w.]*)`", row), "torana.frontends.kit.testing"}
    folders = {"torana_graph": tmp_path, "torana_taskfile": ROOT / "examples/third-party"}
    write_scaffold("graph", tmp_path)
    for own, folder in folders.items():
        sources = sorted(folder.rglob("*.py"))
        assert sources
        for path in sources:
            for module in _imported(path.read_text()):
                if module.partition(".")[0] == "torana":
                    assert any(
                        f"{module}.".startswith(f"{each}.") for each in public - {"torana"}
                    ), f"{own}: {path.name} imports {module}"


def _imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


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
