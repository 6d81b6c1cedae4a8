"""Who a process runs as: `USER[:GROUP]` looked up in the tree it runs in.

Spec: reference of exec, section 11.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.ops.runtime import User
from torana.core.snapshots.rootfs import resolve

_MAX_FILE_BYTES: Final = 10 << 20
_MAX_ID: Final = 2**31 - 1


def resolve_user(text: str, root: Path) -> User:
    """Give the ids of `text`; files of `root` are read only where it has a name.

    Raises:
        InvalidExecOpError: an unknown name, an id out of range, or a file that cannot be used.
    """
    if not text:
        return User()
    user_text, colon, group_text = text.partition(":")
    uid, gid = _number(user_text or "0"), _number(group_text)
    if uid is not None and colon and gid is not None:
        return User(uid, gid)
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


def _number(text: str) -> int | None:
    if text == "root":
        return 0
    if not (text.isascii() and text.isdigit()):
        return None
    if int(text) > _MAX_ID:
        raise InvalidExecOpError(f"uids and gids must be in range 0-{_MAX_ID}: `{text}`")
    return int(text)


def _find_user(root: Path, text: str, uid: int | None) -> tuple[int, int, str] | None:
    for name, _, id_text, gid_text, *_ in _rows(root, b"/etc/passwd", 4):
        if (text and name == text) or (uid is not None and id_text == str(uid)):
            found, primary = _id(id_text), _id(gid_text)
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


def _id(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) <= _MAX_ID else None


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
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidExecOpError(f"not a regular file: `{path.decode()}`")
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidExecOpError(f"file is larger than 10 MiB: `{path.decode()}`")
    return data.decode(errors="surrogateescape")
