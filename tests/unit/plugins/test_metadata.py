"""Reading the metadata of distributions without `importlib.metadata`, and as that does."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.plugins.installed import Installed
from torana.plugins.metadata import entry_points, installed_metadata

POINTS = "[torana.frontends]\nlua = torana_lua:Frontend\n"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of `sys.path`."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def leave(
    folder: Path, name: str = "torana-lua", version: str = "1.0", file: str = "METADATA"
) -> None:
    folder.mkdir(parents=True)
    (folder / file).write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: no\n"
    )
    (folder / "entry_points.txt").write_text(POINTS)


def found() -> list[tuple[str, str]]:
    return [(each.name, each.version) for each in Installed().distributions]


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("torana_lua-1.0.dist-info", "METADATA"),
        ("torana_lua.egg-info", "PKG-INFO"),
        ("torana_lua-1.0-py3.11.egg/EGG-INFO", "PKG-INFO"),
    ],
)
def test_all_kinds_of_folders_are_read_as_the_standard_library_reads_them(
    path: Path, folder: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(path / folder, file=file)
    monkeypatch.setattr(sys, "path", [str((path / folder).parent)])
    assert found() == [("torana-lua", "1.0")]
    assert [(each.name, each.version) for each in metadata.distributions()] == found()


def test_what_lies_in_a_zip_file_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(path / "packed.zip", "w") as archive:
        archive.writestr("torana_lua-2.0.dist-info/METADATA", "Name: torana-lua\nVersion: 2.0\n")
        archive.writestr("torana_lua-2.0.dist-info/entry_points.txt", POINTS)
    monkeypatch.setattr(sys, "path", [str(path / "packed.zip")])
    assert found() == [("torana-lua", "2.0")]


def test_finders_of_others_are_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(path / "elsewhere/torana_lua-3.0.dist-info", version="3.0")

    class Finder:
        def find_spec(self, *_: object) -> None:
            return None

        def find_distributions(self, context: object) -> list[metadata.Distribution]:
            return [metadata.Distribution.at(path / "elsewhere/torana_lua-3.0.dist-info")]

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert found() == [("torana-lua", "3.0")]


def test_a_finder_that_fails_hides_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(path / "torana_lua-1.0.dist-info")

    class Finder:
        def find_spec(self, *_: object) -> None:
            return None

        def find_distributions(self, context: object) -> list[metadata.Distribution]:
            raise RuntimeError("broken")

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert found() == [("torana-lua", "1.0")]


def test_the_first_of_a_name_counts_as_for_imports(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(path / "a/torana_lua-2.0.dist-info", version="2.0")
    leave(path / "b/torana_lua-1.0.dist-info")
    leave(path / "b/torana_old-1.0.dist-info", name="torana-old")
    leave(path / "a/torana_old-2.0.dist-info", name="torana-old")
    (path / "a/torana_old-2.0.dist-info/entry_points.txt").unlink()  # it has no frontend any more
    monkeypatch.setattr(sys, "path", [str(path / "a"), str(path / "b"), str(path / "gone")])
    assert found() == [("torana-lua", "2.0")]


def test_without_metadata_the_folder_names_it(path: Path) -> None:
    leave(path / "torana_lua-1.0.dist-info")
    (path / "torana_lua-1.0.dist-info/METADATA").unlink()
    assert found() == [("torana_lua", "1.0")]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[torana.frontends]\nlua\n", "line 2: `lua`"),
        (b"[torana.frontends]\nlua =\n", "line 2: `lua =`"),
        (b"[torana.frontends]\nlua = \xff:F\n", "can't decode byte 0xff"),
    ],
)
def test_a_broken_file_is_told_with_its_line(path: Path, data: bytes, problem: str) -> None:
    leave(path / "torana_lua-1.0.dist-info")
    (path / "torana_lua-1.0.dist-info/entry_points.txt").write_bytes(data)
    (broken,) = Installed().distributions
    assert (broken.name, broken.version) == ("torana-lua", "1.0")
    assert problem in broken.problem


def test_files_of_others_are_not_ours_to_judge(path: Path) -> None:
    leave(path / "other-1.0.dist-info", name="other")
    (path / "other-1.0.dist-info/entry_points.txt").write_bytes(b"[console_scripts]\nx = \xff\n")
    assert found() == []


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
ENTRIES = st.dictionaries(
    NAMES, st.dictionaries(NAMES, st.sampled_from(["a:b", "a.b:C.d", "a:b [x]"]), min_size=1)
)


@given(ENTRIES, st.sampled_from(["", "# note\n", "\n", "  \n"]))
def test_entries_are_those_that_the_standard_library_reads(
    groups: dict[str, dict[str, str]], between: str
) -> None:
    text = "".join(
        f"[{group}]\n{between}" + "".join(f"{name} = {to}\n" for name, to in entries.items())
        for group, entries in groups.items()
    )
    with tempfile.TemporaryDirectory(suffix=".dist-info") as folder:
        (Path(folder) / "entry_points.txt").write_text(text)
        points = metadata.Distribution.at(folder).entry_points
    wanted = [(each.group, each.name, each.value) for each in points]
    assert list(entry_points(text)) == wanted


def test_all_that_is_installed_here_is_seen() -> None:
    wanted = {each.read_text("METADATA") for each in metadata.distributions()}
    assert {each.read_text("METADATA") for each in installed_metadata()} == wanted
