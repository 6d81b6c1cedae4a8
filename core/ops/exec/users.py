"""Who a process runs as: `USER[:GROUP]` looked up in the tree it runs in.

Spec: reference of exec, section 11.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.ops.runtime import User
from torana.core.snapshots.rootfs import resolve

_MAX_FILE_BYTES: Final = 10 << 20
_MAX_ID: Final = 2**31 - 1
_MAX_ID_OF_PAIRS: Final = 2**32 - 1  # what the kernel takes
_MAX_DIGITS: Final = 20
_NUMBER: Final = re.compile(r"[+-]?[0-9]+")


def resolve_user(text: str, root: Path) -> User:
    """Give the ids of `text`; files of `root` are read unless it is two numbers.

    A number is never taken for a name.

    Raises:
        InvalidExecOpError: an unknown name, an id out of range, or a file that cannot be used.
    """
    if not text:
        return User()
    user_text, colon, group_text = text.partition(":")
    pair = _plain(user_text or "0"), _plain(group_text)
    if colon and pair[0] is not None and pair[1] is not None:
        return User(pair[0], pair[1])
    uid, gid = _number(user_text or "0"), _number(group_text)
    groups: tuple[int, ...] = ()
    primary = 0
    if uid is None or not group_text:
        entry = _find_user(root, user_text, uid)
        if entry is not None:
            uid, primary, name = entry
            if not group_text:
                groups = tuple(_groups_of(root, name))
        elif uid is None:
            raise InvalidExecOpError(
                f"unable to find user {user_text}: no matching entries in passwd file"
            )
    if not group_text:
        return User(uid, primary, groups)
    return User(uid, _find_group(root, group_text) if gid is None else gid, ())


def home_of(uid: int, root: Path) -> str:
    """Give the home folder that the tree has for a user; `/` where it has none."""
    with contextlib.suppress(InvalidExecOpError, OSError):
        for row in _rows(root, b"/etc/passwd", 6):
            if _id(row[2]) == uid:
                return row[5] or "/"
    return "/"


def _plain(text: str) -> int | None:
    if text == "root":
        return 0
    return _id(text, _MAX_ID_OF_PAIRS)


def _number(text: str) -> int | None:
    if text == "root":
        return 0
    if not _NUMBER.fullmatch(text):
        return None
    if len(text) > _MAX_DIGITS or not 0 <= int(text) <= _MAX_ID:
        raise InvalidExecOpError(f"uids and gids must be in range 0-{_MAX_ID}")
    return int(text)


def _find_user(root: Path, text: str, uid: int | None) -> tuple[int, int, str] | None:
    for name, _, id_text, gid_text, *_ in _rows(root, b"/etc/passwd", 4):
        found, primary = _id(id_text), _id(gid_text)
        if (found == uid) if uid is not None else (name == text):
            if found is not None and primary is not None:
                return found, primary, name
    return None


def _find_group(root: Path, text: str) -> int:
    for name, _, id_text, *_ in _rows(root, b"/etc/group", 3):
        gid = _id(id_text)
        if name == text and gid is not None:
            return gid
    raise InvalidExecOpError(f"unable to find group {text}: no matching entries in group file")


def _groups_of(root: Path, name: str) -> Iterator[int]:
    for _, _, id_text, members in _rows(root, b"/etc/group", 4):
        gid = _id(id_text)
        if gid is not None and name in members.split(","):
            yield gid


def _id(text: str, most: int = _MAX_ID) -> int | None:
    # Python refuses very long numbers with an error of its own.
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if is_number and int(text) <= most else None


def _rows(root: Path, path: bytes, columns: int) -> Iterator[list[str]]:
    for line in _read(root, path).split("\n"):
        row = line.strip().split(":")
        if len(row) >= columns:
            yield row[: max(columns, 4)]


def _read(root: Path, path: bytes) -> str:
    """Read a file inside the tree; a missing one is empty."""
    full = resolve(os.fsencode(root), path)
    try:
        # Not blocking: the tree may hold a pipe under that name.
        descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidExecOpError(f"not a regular file: `{path.decode()}`")
    with open(descriptor, "rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidExecOpError(f"file is larger than 10 MiB: `{path.decode()}`")
    return data.decode(errors="surrogateescape")
