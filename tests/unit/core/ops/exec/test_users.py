from __future__ import annotations

import os
from pathlib import Path

import pytest

from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.ops.exec.users import home_of, resolve_user
from torana.core.ops.runtime import User

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment
broken:x:no
ann:x:1001:1002::/home/ann:/bin/sh
ann:x:9999:9999::/second:/bin/sh
42:x:7:8::/:/bin/sh
"""
GROUP = "root:x:0:\nannies:x:1002:\nextra:x:1003:bob,ann\nmore:x:1004:ann\nshort:x:5\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", User()),
        ("0", User()),
        ("root", User()),
        ("root:root", User()),
        ("ann", User(1001, 1002, (1003, 1004))),
        ("1001", User(1001, 1002, (1003, 1004))),
        ("ann:extra", User(1001, 1003)),
        ("ann:77", User(1001, 77)),
        ("5000", User(5000, 0)),
        ("5000:6000", User(5000, 6000)),
        ("5000:annies", User(5000, 1002)),
        (":annies", User(0, 1002)),
        (":5", User(0, 5)),
        ("ann:short", User(1001, 5)),
        ("42", User(42, 0)),  # a number is no name
        ("+5000", User(5000, 0)),
        ("4294967295:1", User(4294967295, 1)),
        ("ann:1003", User(1001, 1003)),
    ],
)
def test_users(root: Path, text: str, expected: User) -> None:
    assert resolve_user(text, root) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zoe", "unable to find user zoe: no matching entries in passwd file"),
        ("broken", "unable to find user broken: no matching entries in passwd file"),
        ("ann:zoes", "unable to find group zoes: no matching entries in group file"),
        ("4294967296", "^uids and gids must be in range 0-2147483647$"),
        ("4294967296:1", "must be in range"),
        ("-1", "must be in range"),
        ("1:-1", "must be in range"),
        ("9" * 5000, "must be in range"),
        ("\u0661", "unable to find user \u0661"),
    ],
)
def test_refused(root: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidExecOpError, match=message):
        resolve_user(text, root)


def test_numbers_read_no_files(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    assert resolve_user("1:2", tmp_path) == User(1, 2)
    assert resolve_user("root:2", tmp_path) == User(0, 2)
    with pytest.raises(InvalidExecOpError, match="not a regular file: `/etc/passwd`"):
        resolve_user("1", tmp_path)
    assert home_of(1, tmp_path) == "/"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").mkdir(parents=True)
    with pytest.raises(InvalidExecOpError, match="not a regular file: `/etc/passwd`"):
        resolve_user("ann", tmp_path)


def test_homes(root: Path) -> None:
    assert [home_of(uid, root) for uid in (0, 1001, 7, 5000)] == ["/root", "/home/ann", "/", "/"]
    (root / "etc/passwd").write_text(f"x:x:1:1::\nshort:x:2:2\nlong:x:{'9' * 5000}:2::/:\n")
    assert [home_of(uid, root) for uid in (1, 2)] == ["/", "/"]


def test_missing_files_are_empty(tmp_path: Path) -> None:
    assert resolve_user("12", tmp_path) == User(12, 0)


def test_links_stay_inside(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "passwd"
    outside.write_text("eve:x:0:0::/:/bin/sh\n")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to(outside)
    with pytest.raises(InvalidExecOpError, match="unable to find user eve"):
        resolve_user("eve", root)
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("/usr/passwd")
    (root / "usr").mkdir()
    (root / "usr/passwd").write_text("eve:x:5:6::/:/bin/sh\n")
    assert resolve_user("eve", root) == User(5, 6)


def test_huge_file_is_refused(root: Path) -> None:
    with open(root / "etc/passwd", "ab") as file:
        file.truncate((10 << 20) + 1)
    with pytest.raises(InvalidExecOpError, match="larger than 10 MiB"):
        resolve_user("ann", root)
