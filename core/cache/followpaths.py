"""The paths that a client sends for `followpaths`: those named, and what links on the way lead to.

Paths may have wildcards; a wildcard stays as it is, and links that match it are followed, too. The
result goes to the include patterns.

Spec: reference of sources, section 7; reference of the session, FileSync.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence

from torana.core.wildcards import component_patterns, has_wildcard


def include_patterns(root: bytes, include: Sequence[str], follow: Sequence[str]) -> list[str]:
    """Give include patterns that hold `follow`, too; none at all means everything. Blocks.

    Raises:
        InvalidPatternError: a malformed wildcard.
    """
    targets = followed_paths(root, follow)
    if targets is None:
        return list(include)
    return _without_nested([*include, *targets]) or []


def followed_paths(root: bytes, paths: Sequence[str]) -> list[str] | None:
    """Give `paths` and all that they lead to, sorted; None where one of them is the root."""
    walk = _Walk(root)
    for path in paths:
        walk.add(path)
    return _without_nested(sorted(walk.found, key=os.fsencode))


def _without_nested(paths: Sequence[str]) -> list[str] | None:
    """Drop each path that lies below the one before it; None where one is the root."""
    kept: list[str] = []
    last = ""
    for path in paths:
        if path == ".":
            return None
        if not path.startswith(last + "/"):
            kept.append(path)
            last = path
    return kept


class _Walk:
    """Resolves paths, collecting each link and each end."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self.found: set[str] = set()

    def add(self, path: str) -> None:
        pending = [path]
        while pending:
            pending += reversed(self._steps(pending.pop()))

    def _steps(self, path: str) -> list[str]:
        """Go along one path to its end, or to the first link; give where the link leads."""
        parts = posixpath.normpath("/" + path).strip("/").split("/")
        if parts == [""]:
            self.found.add(".")
            return []
        for count in range(1, len(parts) + 1):
            here = "/".join(parts[:count])
            rest = "/".join(parts[count:])
            targets = self._targets(here)
            if rest and not targets:
                continue
            if here in self.found:
                return []
            self.found.add(here)
            return [posixpath.join(target, rest) for target in targets]
        return []

    def _targets(self, path: str) -> list[str]:
        folder, name = posixpath.split(path)
        if not has_wildcard(name):
            return self._link(path)
        try:
            names = os.listdir(self._root + b"/" + os.fsencode(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        (pattern,) = component_patterns(name)
        matching = sorted(n for n in map(os.fsdecode, names) if pattern.fullmatch(n))
        return [t for each in matching for t in self._link(posixpath.join(folder, each))]

    def _link(self, path: str) -> list[str]:
        full = self._root + b"/" + os.fsencode(path)
        try:
            if not stat.S_ISLNK(os.lstat(full).st_mode):
                return []
            target = os.fsdecode(os.readlink(full))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target))]
