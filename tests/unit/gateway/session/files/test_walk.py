"""What of a folder is sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.gateway.session.files.trees import make_tree

from torana.core.errors import UserError
from torana.gateway.protocol import filemode
from torana.gateway.session.files.walk import FolderTree, Selection, owned_by_root


def paths(root: Path, **selection: list[str]) -> list[str]:
    with FolderTree(root, Selection(**selection)) as tree:
        return [os.fsdecode(stat.path) for stat in tree.entries()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path in ("src/main.py", "src/deep/er/x.py", "src/notes.md", "docs/a.md", "docs/b/c.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "current").symlink_to("src")
    (tmp_path / "absolute").symlink_to("/docs/b")
    (tmp_path / "up").symlink_to("../../docs/a.md")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_order_is_depth_first_by_bytes(tmp_path: Path) -> None:
    make_tree(tmp_path)
    found = paths(tmp_path)
    assert found[:5] == ["a", "a/b", "a-b", "a.txt", "big"]
    assert found.index("grüße") < found.index("latin-\udce9") < found.index("link")


def test_stats_are_those_of_fsutil(tmp_path: Path) -> None:
    make_tree(tmp_path)
    with FolderTree(tmp_path, change=owned_by_root) as tree:
        stats = {stat.path: stat for stat in tree.entries()}
    assert stats[b"a"].mode == filemode.DIR | 0o755
    assert stats[b"a"].size == 0
    assert stats[b"sticky"].mode == filemode.DIR | filemode.STICKY | 0o777
    assert stats[b"script"].mode == filemode.SETUID | 0o755
    assert (stats[b"link"].mode, stats[b"link"].size) == (filemode.SYMLINK | 0o777, 3)
    assert stats[b"link"].linkname == b"a/b"
    assert stats[b"pipe"].mode == filemode.NAMED_PIPE | 0o644
    assert (stats[b"z-hard"].linkname, stats[b"z-hard"].size) == (b"a.txt", 4)
    assert {(stat.uid, stat.gid) for stat in stats.values()} == {(0, 0)}


def test_filtered_hard_link_is_a_file(tmp_path: Path) -> None:
    make_tree(tmp_path)
    with FolderTree(tmp_path, Selection(exclude=["a.txt"])) as tree:
        (stat,) = [stat for stat in tree.entries() if stat.path == b"z-hard"]
    assert stat.linkname == b""


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"exclude": ["src", "docs", "?*l*", "up", "loop"]}, ["current", "empty"]),
        ({"exclude": ["*", "!src/deep"]}, ["src", "src/deep", "src/deep/er", "src/deep/er/x.py"]),
        ({"include": ["src/*.md"]}, ["src", "src/notes.md"]),
        (
            {"include": ["**/*.md"], "exclude": ["docs/b"]},
            ["docs", "docs/a.md", "src", "src/notes.md"],
        ),
        ({"include": ["docs"], "exclude": ["**/c.md"]}, ["docs", "docs/a.md", "docs/b"]),
        ({"include": ["empty", "nothing"]}, ["empty"]),
        ({"follow_paths": ["src/main.py"]}, ["src", "src/main.py"]),
        ({"follow_paths": ["current/main.py"]}, ["current", "src", "src/main.py"]),
        ({"follow_paths": ["absolute"]}, ["absolute", "docs", "docs/b", "docs/b/c.md"]),
        ({"follow_paths": ["up"]}, ["docs", "docs/a.md", "up"]),
        ({"follow_paths": ["loop"]}, ["loop"]),
        ({"follow_paths": ["cur*/notes.md"]}, ["current", "src", "src/notes.md"]),
        ({"follow_paths": ["../../../../docs/a.md"]}, ["docs", "docs/a.md"]),
        ({"follow_paths": ["none"]}, []),
        (
            {"follow_paths": ["src"], "exclude": ["src/deep"]},
            ["src", "src/main.py", "src/notes.md"],
        ),
    ],
)
def test_selections(root: Path, selection: dict[str, list[str]], expected: list[str]) -> None:
    assert paths(root, **selection) == expected


def test_follow_paths_of_the_root_filter_nothing(root: Path) -> None:
    assert paths(root, follow_paths=["/"]) == paths(root)


def test_followed_links_never_lead_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to("../secret")
    (root / "far").symlink_to("/etc/passwd")
    assert paths(root, follow_paths=["out", "far"]) == ["far", "out"]


def test_opening_follows_no_swapped_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "file").write_text("y")
    with FolderTree(root) as tree:
        assert len(list(tree.entries())) == 2
        (root / "folder" / "file").unlink()
        assert tree.open(b"folder/file") is None
        (root / "folder" / "file").symlink_to(tmp_path / "secret")
        assert tree.open(b"folder/file") is None
        (root / "folder" / "file").unlink()
        (root / "folder").rmdir()
        (root / "folder").symlink_to(tmp_path)
        assert tree.open(b"folder/secret") is None


def test_malformed_patterns_are_errors_of_the_user(root: Path) -> None:
    with pytest.raises(UserError):
        FolderTree(root, Selection(exclude=["[a"]))
