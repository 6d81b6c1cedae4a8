"""Owners of what actions make: numbers, or names looked up in a tree's passwd and group files.

Spec: fileop reference, section 9.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

from torana.core.llb.ops import ChownOpt, UserOpt
from torana.core.ops.file.errors import FileActionError
from torana.core.ops.file.root import Root, open_regular

MAX_SIZE: Final = 10 << 20

Owner = tuple[int, int]
ReadTree = Callable[[int, bytes], bytes | None]
"""Reads a file of the tree with a slot number; None when it is not there or not regular."""


def resolve_owner(option: ChownOpt | None, read: ReadTree) -> Owner | None:
    """Give uid and gid, None when no owner is asked for.

    An unknown user is 0:0, an unknown group leaves the user's.
    """
    if option is None:
        return None
    uid = gid = 0
    if option.user is not None:
        uid, gid = _user(option.user, read)
    if option.group is not None:
        gid = _group(option.group, read, gid)
    return uid, gid


def _user(option: UserOpt, read: ReadTree) -> Owner:
    if option.by_name is None:
        number = option.by_id or 0
        return number, number
    wanted = _encode(option.by_name.name)
    for fields in _rows(read(option.by_name.input, b"/etc/passwd")):
        if fields[0] == wanted and len(fields) >= 4:
            return _number(fields[2]), _number(fields[3])
    return 0, 0


def _group(option: UserOpt, read: ReadTree, default: int) -> int:
    if option.by_name is None:
        return option.by_id or 0
    wanted = _encode(option.by_name.name)
    for fields in _rows(read(option.by_name.input, b"/etc/group")):
        if fields[0] == wanted and len(fields) >= 3:
            return _number(fields[2])
    return default


def _rows(data: bytes | None) -> Iterator[list[bytes]]:
    for line in (data or b"").split(b"\n"):
        text = line.strip()
        if text and not text.startswith(b"#"):
            yield text.split(b":")


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() and int(text) < 1 << 32 else 0


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def read_small(root: Root, path: bytes) -> bytes | None:
    """Read a regular file of at most 10 MiB; None when it is not there or something else.

    Raises:
        FileActionError: it is larger.
    """
    with root.find(path) as place:
        if len(place.tail) != 1:
            return None
        try:
            file, status = open_regular(place.folder, place.tail[0])
        except OSError:
            return None
        with os.fdopen(file, "rb") as reader:
            if status.st_size > MAX_SIZE:
                shown = os.fsdecode(path)
                raise FileActionError(f"file is too large for a user lookup: {shown}")
            return reader.read(MAX_SIZE)
