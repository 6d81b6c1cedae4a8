"""Paths stay inside their root, whatever links, dots and races try."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.snapshots.rootfs import RootFolder, clean, is_directory, relative, resolve


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "f").touch()
    for name, target in {
        "up": "../../../..",
        "absolute": "/a/b",
        "away": str(tmp_path / "outside"),
        "relative": "a/b",
        "a/b/back": "../f",
        "loop": "pool",
        "pool": "loop",
        "self": "self/x",
        "dangling": "nowhere/there",
        "dots": "a/./../a/b/..",
    }.items():
        (root / name).symlink_to(target)
    return root


CASES = [
    (b"/", b""),
    (b"", b""),
    (b"..", b""),
    (b"/../../etc/passwd", b"/etc/passwd"),
    (b"a/b", b"/a/b"),
    (b"a//./b/", b"/a/b"),
    (b"up", b""),
    (b"up/a", b"/a"),
    (b"up/../..", b""),
    (b"absolute", b"/a/b"),
    (b"absolute/back", b"/a/f"),
    (b"absolute/..", b"/a"),
    (b"relative/../f", b"/a/f"),
    (b"dots/f", b"/a/f"),
    (b"dangling", b"/nowhere/there"),
    (b"dangling/x", b"/nowhere/there/x"),
    (b"missing/../a", b"/a"),
    (b"a/f/below", b"/a/f/below"),
    (b"\xff", b"/\xff"),
]


@pytest.mark.parametrize(("path", "expected"), CASES)
def test_resolve(root: Path, path: bytes, expected: bytes) -> None:
    inside = os.fsencode(root)
    assert resolve(inside, path) == inside + expected


def test_resolve_never_leaves(root: Path, tmp_path: Path) -> None:
    inside = os.fsencode(root)
    found = resolve(inside, b"away/secret")
    assert found == inside + os.fsencode(tmp_path) + b"/outside/secret"


@pytest.mark.parametrize("name", [b"loop", b"self", b"loop/x"])
def test_loops_end(root: Path, name: bytes) -> None:
    with pytest.raises(OSError, match="too many links") as caught:
        resolve(os.fsencode(root), name)
    assert caught.value.errno == errno.ELOOP


def test_255_links_and_no_more(root: Path) -> None:
    (root / "l0").symlink_to("a")
    for number in range(1, 256):
        (root / f"l{number}").symlink_to(f"l{number - 1}")
    inside = os.fsencode(root)
    assert resolve(inside, b"l254") == inside + b"/a"
    with pytest.raises(OSError, match="too many links"):
        resolve(inside, b"l255")


def test_the_last_component_is_left_alone_on_demand(root: Path) -> None:
    inside = os.fsencode(root)
    assert resolve(inside, b"absolute", follow_last=False) == inside + b"/absolute"
    assert resolve(inside, b"absolute/back", follow_last=False) == inside + b"/a/b/back"
    assert resolve(inside, b"a/..", follow_last=False) == inside


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b", "up", "away"]), max_size=12))
def test_clean_is_confined_and_stable(parts: list[str]) -> None:
    found = clean("/".join(parts))
    assert found.startswith("/")
    assert ".." not in found.split("/")
    assert clean(found) == found


def test_relative_and_is_directory(root: Path) -> None:
    inside = os.fsencode(root)
    assert relative(inside, inside) == b"/"
    assert relative(inside, inside + b"/a") == b"/a"
    assert is_directory(inside + b"/a")
    assert not is_directory(inside + b"/absolute")
    assert not is_directory(inside + b"/a/f/x")


@pytest.fixture(params=[True, False], ids=["openat2", "walk"])
def folder(request: pytest.FixtureRequest, root: Path) -> Iterator[RootFolder]:
    with RootFolder(root, use_openat2=request.param) as made:
        yield made


def opened(folder: RootFolder, path: bytes, *, make_mode: int | None = None) -> str:
    fd = folder.open(path, make_mode=make_mode)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", ""),
        (b"/", ""),
        (b"..", ""),
        (b"../../..", ""),
        (b"up", ""),
        (b"up/../a", "/a"),
        (b"absolute", "/a/b"),
        (b"relative/..", "/a"),
        (b"dots", "/a"),
    ],
)
def test_open(folder: RootFolder, root: Path, path: bytes, expected: str) -> None:
    assert opened(folder, path) == f"{root}{expected}"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (b"away", FileNotFoundError),
        (b"missing/x", FileNotFoundError),
        (b"a/f", NotADirectoryError),
        (b"a/f/x", NotADirectoryError),
    ],
)
def test_open_refuses(folder: RootFolder, path: bytes, error: type[OSError]) -> None:
    with pytest.raises(error):
        folder.open(path)


def test_open_ends_loops(folder: RootFolder) -> None:
    with pytest.raises(OSError) as caught:
        folder.open(b"loop")
    assert caught.value.errno == errno.ELOOP


def test_open_makes_what_is_missing(folder: RootFolder, root: Path, tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        assert opened(folder, b"relative/new/../new/er", make_mode=0o755) == f"{root}/a/b/new/er"
    finally:
        os.umask(previous)
    assert (root / "a/b/new").stat().st_mode & 0o777 == 0o755
    assert opened(folder, b"dangling/x", make_mode=0o755) == f"{root}/nowhere/there/x"
    opened(folder, b"away/made", make_mode=0o755)
    assert os.listdir(tmp_path / "outside") == ["secret"]


def test_nothing_is_left_open(folder: RootFolder) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in (b"a/b", b"absolute/..", b"loop", b"missing", b"a/f", b"x/y"):
        try:
            os.close(folder.open(path, make_mode=0o755 if path == b"x/y" else None))
        except OSError:
            continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_links_swapped_in_meanwhile_lead_nowhere(
    folder: RootFolder, root: Path, tmp_path: Path
) -> None:
    """Another process changes a directory to a link to the outside and back all the time."""
    outside = os.stat(tmp_path / "outside")
    (root / "trap").symlink_to(tmp_path / "outside")
    (root / "swap").mkdir()
    os.makedirs(root / str(tmp_path).lstrip("/") / "outside")
    is_done = threading.Event()

    def swap() -> None:
        while not is_done.is_set():
            os.rename(root / "swap", root / "aside")
            os.rename(root / "trap", root / "swap")
            os.rename(root / "swap", root / "trap")
            os.rename(root / "aside", root / "swap")

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for _ in range(2000):
            try:
                fd = folder.open(b"swap")
            except OSError:
                continue
            try:
                assert not os.path.samestat(os.fstat(fd), outside)
            finally:
                os.close(fd)
    finally:
        is_done.set()
        attacker.join()
