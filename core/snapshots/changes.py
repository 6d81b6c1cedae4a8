"""Differences between trees, in the order of a layer tar.

Two ways: from the upper directory of an overlay, which holds nothing but changes, and by walking
both trees. Both give the same.

A hard link that is new or changed brings its unchanged siblings along, right after it: a layer with
the changed one alone would make a file of its own from it, and cut the link.

Spec: exporters reference, section 8.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final

from torana.core.snapshots.snapshotter import Change, ChangeKind

_OPAQUE: Final = ("trusted.overlay.opaque", "user.overlay.opaque")
_CAPABILITY: Final = "security.capability"
_COMPARE: Final = 1 << 20


class _Links:
    """Files with several links seen on one walk, by inode."""

    def __init__(self) -> None:
        self._unchanged: dict[tuple[int, int], list[Change]] = {}
        self._changed: set[tuple[int, int]] = set()

    def changed(self, change: Change, status: os.stat_result) -> Iterator[Change]:
        """Give the change, and those siblings that had come before it."""
        yield change
        if _is_linked(status):
            key = status.st_dev, status.st_ino
            self._changed.add(key)
            yield from self._unchanged.pop(key, ())

    def unchanged(self, path: bytes, source: bytes, status: os.stat_result) -> Iterator[Change]:
        """Give the file as a change if a sibling is one, else remember it."""
        if _is_linked(status):
            change = Change(ChangeKind.MODIFY, path, source, status)
            key = status.st_dev, status.st_ino
            if key in self._changed:
                yield change
            else:
                self._unchanged.setdefault(key, []).append(change)


def _is_linked(status: os.stat_result) -> bool:
    return status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)


def walk_both(lower: bytes | None, upper: bytes) -> Iterator[Change]:
    """Compare two trees; `lower` None is empty. The roots themselves are not compared."""
    yield from _walk(lower, upper, b"", _Links())


def _walk(lower: bytes | None, upper: bytes, prefix: bytes, links: _Links) -> Iterator[Change]:
    """Walk directories `lower` and `upper`, which are both at `prefix`; iterative by a stack."""
    if lower is None:
        yield from _walk_new(upper, prefix, links)
        return
    stack = [_pairs(lower, upper, prefix)]
    while stack:
        pair = next(stack[-1], None)
        if pair is None:
            stack.pop()
            continue
        path, below, above = pair
        if above is None:
            yield Change(ChangeKind.DELETE, path, None)
            continue
        status = os.lstat(above)
        is_folder = stat.S_ISDIR(status.st_mode)
        if below is None:
            yield from links.changed(Change(ChangeKind.ADD, path, above, status), status)
        else:
            under = os.lstat(below)
            if is_same(below, under, above, status):
                yield from links.unchanged(path, above, status)
            else:
                yield from links.changed(Change(ChangeKind.MODIFY, path, above, status), status)
            if not stat.S_ISDIR(under.st_mode):
                below = None
        if not is_folder:
            continue
        if below is None:
            yield from _walk_new(above, path, links)
        else:
            stack.append(_pairs(below, above, path))


def _walk_new(upper: bytes, prefix: bytes, links: _Links) -> Iterator[Change]:
    """Walk a directory with nothing below it: a whole copied tree may be in there."""
    stack = [_new_entries(upper, prefix)]
    while stack:
        change = next(stack[-1], None)
        if change is None:
            stack.pop()
            continue
        assert change.status is not None
        assert change.source is not None
        if stat.S_ISDIR(change.status.st_mode):
            yield change
            stack.append(_new_entries(change.source, change.path))
        elif change.status.st_nlink > 1:
            yield from links.changed(change, change.status)
        else:
            yield change


def _new_entries(folder: bytes, prefix: bytes) -> Iterator[Change]:
    above = prefix + b"/" if prefix else b""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        yield Change(
            ChangeKind.ADD, above + entry.name, entry.path, entry.stat(follow_symlinks=False)
        )


def _pairs(
    lower: bytes, upper: bytes, prefix: bytes
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Give names of both directories in byte order with their paths, None where missing."""
    below = set(os.listdir(lower))
    above = set(os.listdir(upper))
    for name in sorted(below | above):
        path = prefix + b"/" + name if prefix else name
        down = lower + b"/" + name if name in below else None
        yield path, down, upper + b"/" + name if name in above else None


def walk_overlay(upper: bytes, lower: bytes) -> Iterator[Change]:
    """Give what the overlay directory `upper` changes in the tree `lower`.

    Its files are the sources: they are whole, since our mounts exclude `metacopy` and
    `redirect_dir`.
    """
    # With each directory goes whether it is one below, too: a link there must not be followed.
    stack = [(iter(_sorted_entries(upper, b"")), True)]
    links = _Links()
    while stack:
        entries, has_lower = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        path, full = entry
        status = os.lstat(full)
        below = lower + b"/" + path
        under = _lstat(below) if has_lower else None
        if is_whiteout(status):
            if under is not None:
                yield Change(ChangeKind.DELETE, path, None)
            continue
        if under is None:
            yield from links.changed(Change(ChangeKind.ADD, path, full, status), status)
        elif is_same(below, under, full, status):
            yield from links.unchanged(path, full, status)
        else:
            yield from links.changed(Change(ChangeKind.MODIFY, path, full, status), status)
        if not stat.S_ISDIR(status.st_mode):
            continue
        has_lower = under is not None and stat.S_ISDIR(under.st_mode)
        if has_lower and is_opaque(full):
            # What an opaque directory holds is all there is.
            yield from _walk(below, full, path, links)
        else:
            stack.append((iter(_sorted_entries(full, path)), has_lower))


def _sorted_entries(folder: bytes, prefix: bytes) -> list[tuple[bytes, bytes]]:
    names = sorted(os.listdir(folder))
    return [(prefix + b"/" + n if prefix else n, folder + b"/" + n) for n in names]


def _lstat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def is_whiteout(status: os.stat_result) -> bool:
    """Say whether an entry of an upper directory stands for a deletion."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: bytes) -> bool:
    """Say whether an upper directory hides all that is below it."""
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def is_same(below: bytes, under: os.stat_result, above: bytes, status: os.stat_result) -> bool:
    """Say whether two entries count as equal.

    Mode, owner, device and capability; then, but for directories, size and time to the nanosecond,
    and only where both times are whole seconds, the content.
    """
    if os.path.samestat(under, status):
        return True  # one file by two links, as in stacks
    kind = stat.S_IFMT(status.st_mode)
    if (under.st_mode, under.st_uid, under.st_gid) != (
        status.st_mode,
        status.st_uid,
        status.st_gid,
    ):
        return False
    is_device = kind in (stat.S_IFCHR, stat.S_IFBLK)
    if is_device and under.st_rdev != status.st_rdev:
        return False
    if _capability(below) != _capability(above):
        return False
    if kind == stat.S_IFDIR:
        return True
    if (under.st_size, under.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
        return False
    if status.st_mtime_ns % 1_000_000_000:
        return True
    if kind == stat.S_IFLNK:
        return os.readlink(below) == os.readlink(above)
    return kind != stat.S_IFREG or _same_content(below, above)


def _capability(path: bytes) -> bytes | None:
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError:
        return None


def _same_content(one: bytes, other: bytes) -> bool:
    with open(one, "rb", buffering=0) as first, open(other, "rb", buffering=0) as second:
        while True:
            a, b = first.read(_COMPARE), second.read(_COMPARE)
            if a != b:
                return False
            if not a:
                return True
