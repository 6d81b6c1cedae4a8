"""Archives made with entries of another one are the same as without."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torana.core.snapshots import layertar
from torana.core.snapshots.changes import walk_both
from torana.core.snapshots.layertar import write_layer
from torana.core.snapshots.tarsplice import TarSplice


def archive(layer: Path, splice: TarSplice | None = None) -> bytes:
    sink = io.BytesIO()
    root = os.fsencode(layer)
    write_layer(walk_both(None, root), root, sink, splice=splice)
    return sink.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (7, 7))


def link(path: Path, earlier: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(earlier, path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files whose content was read."""
    found: list[str] = []
    original = layertar.TarWriter._file

    def spy(self: layertar.TarWriter, source: bytes, status: os.stat_result) -> None:
        found.append(os.fsdecode(os.path.basename(source)))
        original(self, source, status)

    monkeypatch.setattr(layertar.TarWriter, "_file", spy)
    return found


def test_shared_files_are_not_read(tmp_path: Path, opened: list[str]) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for name in ("a/one", "a/two", "b", "c"):
        write(old / name, name.encode() * 100)
    for name in ("a/two", "b", "c"):
        link(new / name, old / name)
    write(new / "a/one", b"changed")
    write(new / "a-new", b"new")
    before = archive(old)
    expected = archive(new)
    opened.clear()
    assert archive(new, TarSplice(io.BytesIO(before), os.fsencode(old))) == expected
    assert opened == ["one", "a-new"]


def test_links_within_the_new_layer_stay_links(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write(old / "a", b"text")
    link(new / "a", old / "a")
    link(new / "b", old / "a")
    spliced = archive(new, TarSplice(io.BytesIO(archive(old)), os.fsencode(old)))
    assert spliced == archive(new)


def test_links_of_the_old_layer_are_no_links_in_the_new(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write(old / "a", b"text")
    link(old / "b", old / "a")
    link(new / "b", old / "a")
    spliced = archive(new, TarSplice(io.BytesIO(archive(old)), os.fsencode(old)))
    assert spliced == archive(new)


@pytest.mark.parametrize("size", [0, 3, 512, 700, 1500, 3000])
def test_a_damaged_archive_only_costs_time(tmp_path: Path, size: int) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for name in ("a", "b"):
        write(old / name, name.encode() * 1000)
        link(new / name, old / name)
    before = archive(old)[:size]
    assert archive(new, TarSplice(io.BytesIO(before), os.fsencode(old))) == archive(new)


names = st.sampled_from(
    ["a", "a-b", "a.d/x", "a.d/y", "dir/sub/f", "z", "ünï", "l" * 99 + "/" + "m" * 30, "n" * 120]
)
states = st.dictionaries(names, st.sampled_from(["kept", "changed", "old", "new", "huge"]))


@given(states)
@settings(deadline=None, max_examples=40)
def test_with_and_without(files: dict[str, str]) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        old, new = root / "old", root / "new"
        old.mkdir()
        new.mkdir()
        for name, state in files.items():
            if state != "new":
                write(old / name, name.encode() * (30_000 if state == "huge" else 20))
            if state in ("kept", "huge"):
                link(new / name, old / name)
            elif state != "old":
                write(new / name, b"else")
        splice = TarSplice(io.BytesIO(archive(old)), os.fsencode(old))
        assert archive(new, splice) == archive(new)
    finally:
        shutil.rmtree(root)
