"""`followpaths`: paths and everything that is needed to reach them through symbolic links.

Links are resolved as inside a root: an absolute one starts at the folder, `..` stops at it. The
components of a path may hold wildcards.

Spec: `FollowLinks` of fsutil.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable
from typing import Final

from torana.core.errors import UserError
from torana.core.ops.file.wildcard import InvalidPatternError, component_patterns, has_wildcard

_MAX_PATHS: Final = 100_000


def follow(root: bytes, paths: Iterable[str]) -> list[str] | None:
    """Give the paths, sorted, without those below another; None when the root itself is one.

    Raises:
        UserError: they lead to too many places.
    """
    follower = _Follower(root)
    for path in paths:
        follower.add(path)
    found = sorted(follower.found)
    if "." in follower.found:
        return None
    kept: list[str] = []
    for path in found:
        if not (kept and path.startswith(kept[-1] + "/")):
            kept.append(path)
    return kept


class _Follower:
    def __init__(self, root: bytes) -> None:
        self._root = root
        self.found: set[str] = set()

    def add(self, path: str) -> None:
        pending = [path]
        while pending:
            pending += reversed(self._follow(pending.pop()))

    def _follow(self, path: str) -> list[str]:
        """Walk along `path` to its end or its first link; gives where to go on."""
        parts = posixpath.normpath("/" + path).strip("/").split("/")
        for count in range(1, len(parts) + 1):
            current = "/".join(parts[:count]) or "."
            targets = self._targets(current)
            if targets is None and count < len(parts):
                continue
            if current in self.found:
                return []
            if len(self.found) >= _MAX_PATHS:
                raise UserError(f"followpaths lead to too many places: `{path[:200]}`")
            self.found.add(current)
            rest = parts[count:]
            return [posixpath.join(target, *rest) for target in targets or ()]
        raise AssertionError("a path has a last component")

    def _targets(self, path: str) -> list[str] | None:
        """Give where the links at `path` lead to, None where it is no link."""
        folder, name = posixpath.split(path)
        if has_wildcard(name):
            try:
                (pattern,) = component_patterns(name)
                names = os.listdir(self._full(folder))
            except (OSError, InvalidPatternError):
                return None
            matching = [found for found in map(os.fsdecode, names) if pattern.fullmatch(found)]
            links = [self._target(posixpath.join(folder, found)) for found in sorted(matching)]
            return [target for target in links if target is not None] or None
        target = self._target(path)
        return None if target is None else [target]

    def _target(self, path: str) -> str | None:
        full = self._full(path)
        try:
            if not stat.S_ISLNK(os.lstat(full).st_mode):
                return None
            target = os.fsdecode(os.readlink(full))
        except OSError:
            return None
        return posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target))

    def _full(self, path: str) -> bytes:
        return posixpath.join(self._root, os.fsencode(path)) if path else self._root
