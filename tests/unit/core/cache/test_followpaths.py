from __future__ import annotations

import os
from pathlib import Path

import pytest

from torana.core.cache.followpaths import followed_paths, include_patterns


@pytest.fixture
def root(tmp_path: Path) -> bytes:
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "dir/file").touch()
    (tmp_path / "dir/sub/inner").touch()
    links = {
        "to-file": "dir/file",
        "to-dir": "dir",
        "absolute": "/dir/sub",
        "chain": "to-file",
        "outside": "../../../dir/file",
        "loop": "loop",
        "dangling": "nowhere/x",
        "dir/up": "../to-dir",
        "tolink*": "dir/file",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    return os.fsencode(tmp_path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("dir/file", ["dir/file"]),
        ("missing/x", ["missing/x"]),
        ("to-file", ["dir/file", "to-file"]),
        ("chain", ["chain", "dir/file", "to-file"]),
        ("to-dir/file", ["dir/file", "to-dir"]),
        ("absolute/inner", ["absolute", "dir/sub/inner"]),
        ("outside", ["dir/file", "outside"]),
        ("loop", ["loop"]),
        ("loop/x", ["loop"]),
        ("dangling", ["dangling", "nowhere/x"]),
        ("dir/up/file", ["dir/file", "dir/up", "to-dir"]),
        ("dir/f*", ["dir/f*"]),
        ("to-*", ["dir", "to-*"]),
        ("missing/*", ["missing/*"]),
        ("dir/../to-file", ["dir/file", "to-file"]),
        ("../to-file", ["dir/file", "to-file"]),
    ],
)
def test_links_on_the_way_are_followed(root: bytes, path: str, expected: list[str]) -> None:
    assert followed_paths(root, [path]) == expected


@pytest.mark.parametrize("path", ["", ".", "/", "dir/.."])
def test_the_root_means_everything(root: bytes, path: str) -> None:
    assert followed_paths(root, ["dir/file", path]) is None


def test_what_lies_below_another_path_is_dropped(root: bytes) -> None:
    assert followed_paths(root, ["dir", "dir/sub/inner", "dirt"]) == ["dir", "dirt"]


def test_followed_paths_go_to_the_include_patterns(root: bytes) -> None:
    assert include_patterns(root, ["*.md"], ["to-file"]) == ["*.md", "dir/file", "to-file"]
    assert include_patterns(root, [], ["to-file"]) == ["dir/file", "to-file"]
    assert include_patterns(root, ["*.md"], []) == ["*.md"]
    assert include_patterns(root, [], []) == []


def test_the_root_adds_no_pattern(root: bytes) -> None:
    assert include_patterns(root, ["*.md"], ["/", "dir"]) == ["*.md"]
    assert include_patterns(root, [], ["/"]) == []
