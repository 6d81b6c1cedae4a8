from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from torana.core.ops.exec.stubs import MountPoint, make_directories, make_point, mount_points

OLD = 10**18


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    for path in (tmp_path / "etc", tmp_path):
        os.utime(path, ns=(OLD, OLD))
    return tmp_path


def folder(path: str, **options: Any) -> MountPoint:
    return MountPoint(destination=path, is_directory=True, **options)


def file(path: str, **options: Any) -> MountPoint:
    return MountPoint(destination=path, is_directory=False, **options)


def mtime(path: Path) -> int:
    return path.stat().st_mtime_ns


def test_times_return_when_several_share_a_parent(root: Path) -> None:
    wanted = [
        file("/etc/hosts", removes_parents=True),
        file("/etc/resolv.conf", removes_parents=True),
        folder("/m"),
    ]
    with mount_points(root, wanted):
        assert (root / "etc/hosts").is_file()
        assert (root / "m").is_dir()
        assert mtime(root / "etc") != OLD
    assert os.listdir(root) == ["etc"]
    assert os.listdir(root / "etc") == []
    assert mtime(root) == mtime(root / "etc") == OLD


def test_time_of_a_parent_that_the_step_changed_stays(root: Path) -> None:
    wanted = [
        file("/etc/hosts", removes_parents=True),
        file("/etc/resolv.conf", removes_parents=True),
    ]
    with mount_points(root, wanted):
        os.utime(root / "etc", ns=(OLD + 5, OLD + 5))
    assert mtime(root / "etc") == OLD + 5


def test_parents_stay_unless_asked(root: Path) -> None:
    with mount_points(root, [folder("/a/b/c")]):
        pass
    assert not (root / "a/b/c").exists()
    assert (root / "a/b").is_dir()
    with mount_points(root, [folder("/d/e/f", removes_parents=True)]):
        pass
    assert not (root / "d").exists()


def test_what_is_there_is_left_alone(root: Path) -> None:
    (root / "etc/hosts").touch()
    (root / "m").mkdir()
    with mount_points(
        root, [file("/etc/hosts", removes_parents=True), folder("/m", removes_parents=True)]
    ):
        pass
    assert (root / "etc/hosts").exists()
    assert (root / "m").exists()


def test_filled_or_replaced_stubs_stay(root: Path) -> None:
    wanted = [
        file("/file", removes_parents=True),
        folder("/dir", removes_parents=True),
        folder("/swap", removes_parents=True),
    ]
    with mount_points(root, wanted):
        (root / "file").write_text("x")
        (root / "dir/x").touch()
        (root / "swap").rmdir()
        (root / "swap").symlink_to("dir")
    assert {"file", "dir", "swap"} <= set(os.listdir(root))


def test_links_never_lead_out(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to("../outside")
    (root / "absolute").symlink_to(outside)
    wanted = [folder("/link/a", removes_parents=True), folder("/absolute/b", removes_parents=True)]
    with mount_points(root, wanted):
        assert os.listdir(outside) == []
        assert (root / "outside/a").is_dir()
    make_directories(root, "/link/x", os.getuid(), os.getgid())
    assert os.listdir(outside) == []
    assert (root / "outside/x").is_dir()


def test_parent_swapped_for_a_link_is_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (outside / "x").mkdir(parents=True)
    (root / "d").mkdir(parents=True)
    with mount_points(root, [folder("/d/x", removes_parents=True)]):
        (root / "d/x").rmdir()
        (root / "d").rmdir()
        (root / "d").symlink_to(outside)
    assert (outside / "x").is_dir()


def test_modes_do_not_depend_on_the_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        make_directories(root, "/w/x", os.getuid(), os.getgid())
    finally:
        os.umask(before)
    assert (root / "w").stat().st_mode & 0o777 == 0o755


def test_points_in_mounted_trees_stay(root: Path) -> None:
    (root / "way").symlink_to("etc")
    for path in ("/a/b", "/way/x", "/etc/../../up"):
        make_point(root, folder(path))
    make_point(root, file("/a/file"))
    make_point(root, folder("/open", mode=0o1777))
    assert sorted(os.listdir(root)) == ["a", "etc", "open", "way"]
    assert os.listdir(root / "etc") == []
    assert (root / "a/b").is_dir()
    assert (root / "a/file").read_bytes() == b""
    assert (root / "open").stat().st_mode & 0o7777 == 0o1777
