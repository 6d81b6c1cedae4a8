"""Trees for tests, and what is left of this process's descriptors and tasks."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from pathlib import Path

TIME_NS = 1_700_000_000_123_456_789


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Give all entries below `root`: type and mode, size, content or target, time of files."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in [*folders, *files]:
            full = folder + b"/" + name
            status = os.lstat(full)
            path = os.fsdecode(os.path.relpath(full, os.fsencode(root)))
            if stat.S_ISLNK(status.st_mode):
                found[path] = ("link", os.readlink(full), status.st_mtime_ns)
            elif stat.S_ISREG(status.st_mode):
                content = Path(os.fsdecode(full)).read_bytes()
                mode = stat.S_IMODE(status.st_mode)
                found[path] = ("file", oct(mode), content, status.st_mtime_ns)
            else:
                found[path] = (oct(status.st_mode), status.st_rdev, status.st_mtime_ns)
    return found


def make_tree(root: Path) -> None:
    """Make a folder with all kinds of entries that need no rights."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "a").mkdir()
    (root / "a" / "b").write_bytes(b"in a folder")
    (root / "a-b").write_bytes(b"sorts after a/b")
    (root / "a.txt").write_bytes(b"text")
    (root / "empty").write_bytes(b"")
    (root / "empty-folder").mkdir(mode=0o750)
    (root / "big").write_bytes(bytes(range(256)) * 20_000)
    (root / "with space").write_bytes(b"1")
    (root / "grüße").write_bytes(b"2")
    (root / os.fsdecode(b"latin-\xe9")).write_bytes(b"3")
    (root / "script").write_bytes(b"#!/bin/sh\n")
    (root / "script").chmod(0o4755)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    os.link(root / "a.txt", root / "z-hard")
    (root / "link").symlink_to("a/b")
    (root / "broken").symlink_to("/no/such/place")
    os.mkfifo(root / "pipe")
    for folder, folders, files in os.walk(root, topdown=False):
        for name in [*folders, *files]:
            os.utime(os.path.join(folder, name), ns=(TIME_NS, TIME_NS), follow_symlinks=False)
    os.utime(root, ns=(TIME_NS, TIME_NS))


@dataclass(frozen=True)
class Resources:
    """What a process has: open descriptors by what they are, and tasks of its loop."""

    descriptors: frozenset[str]
    tasks: frozenset[asyncio.Task[object]]

    @classmethod
    def now(cls) -> Resources:
        found = set()
        for name in os.listdir("/proc/self/fd"):
            try:
                found.add(os.readlink(f"/proc/self/fd/{name}"))
            except FileNotFoundError:
                continue
        return cls(frozenset(found), frozenset(asyncio.all_tasks()))

    def leaked(self) -> list[object]:
        """Give what there is now and was not then."""
        now = Resources.now()
        return [*(now.descriptors - self.descriptors), *(now.tasks - self.tasks)]
