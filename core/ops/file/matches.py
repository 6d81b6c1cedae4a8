"""What a wildcard path stands for in a tree.

Spec: fileop reference, section 8.2.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence

from torana.core.ops.file.errors import naming, path_error
from torana.core.ops.file.root import OPEN_FOLDER, Root, clean
from torana.core.wildcards import component_patterns, split_wildcard


def resolve_wildcard(root: Root, path: str, *, follow_links: bool) -> list[bytes]:
    """Give the paths that match, in lexical order; a path without wildcards is its own match.

    `follow_links` is about the last component before the first wildcard only.

    Raises:
        InvalidPatternError: malformed pattern.
        FileActionError: what stands before the wildcard does not exist.
    """
    prefix, rest = split_wildcard(os.fsdecode(clean(path)))
    if not rest:
        return [clean(path)]
    with root.find(clean(prefix), follow_last=follow_links) as place:
        status = place.lstat()
        if status is None:
            raise path_error("lstat", clean(prefix), errno.ENOENT)
        folder = place.folder
        if place.tail:
            try:
                folder = os.open(place.tail[0], OPEN_FOLDER, dir_fd=place.folder)
            except NotADirectoryError:
                return []  # a file, or a link that is not to be followed: nothing is below it
        try:
            base = place.path.rstrip(b"/")
            return [base + b"/" + found for found in _below(folder, component_patterns(rest))]
        finally:
            if folder != place.folder:
                os.close(folder)


def _below(folder: int, patterns: Sequence[re.Pattern[str]]) -> Iterator[bytes]:
    """Match one component per directory level; only real directories are entered."""
    pattern, *deeper = patterns
    with naming("open", b"."):
        listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        names = sorted(os.listdir(listing), key=os.fsencode)
    finally:
        os.close(listing)
    for name in names:
        if not pattern.fullmatch(name):
            continue
        if not deeper:
            yield os.fsencode(name)
            continue
        try:
            child = os.open(name, OPEN_FOLDER, dir_fd=folder)
        except NotADirectoryError:
            continue
        try:
            for found in _below(child, deeper):
                yield os.fsencode(name) + b"/" + found
        finally:
            os.close(child)
