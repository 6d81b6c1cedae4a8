"""Trees that an export sends: under a prefix, with set times, several as one.

Spec: wire reference, session, FileSend and "Order and checks".
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from torana.core.errors import UserError
from torana.gateway.protocol import filemode
from torana.gateway.protocol.files_pb2 import Stat
from torana.gateway.session.files.walk import FolderTree
from torana.plugins.exporter import OutputTree

_FOLDER_MODE: Final = filemode.DIR | 0o755
_NS: Final = 1_000_000_000


class PlacedTree:
    """One tree below its prefix; a context manager. Its methods block."""

    def __init__(self, tree: OutputTree) -> None:
        self._source = None if tree.root is None else FolderTree(tree.root)
        self._prefix = tree.prefix.encode() + b"/" if tree.prefix else b""
        self._time_ns = None if tree.epoch is None else tree.epoch * _NS

    def __enter__(self) -> PlacedTree:
        return self

    def __exit__(self, *args: object) -> None:
        if self._source is not None:
            self._source.close()

    def entries(self) -> Iterator[Stat]:
        if self._prefix:
            yield Stat(path=self._prefix[:-1], mode=_FOLDER_MODE, modTime=self._time_ns or 0)
        for stat in () if self._source is None else self._source.entries():
            stat.path = self._prefix + stat.path
            if stat.linkname and not stat.mode & filemode.TYPE:  # a hard link
                stat.linkname = self._prefix + stat.linkname
            if self._time_ns is not None:
                stat.modTime = self._time_ns
            yield stat

    def open(self, path: bytes) -> int | None:
        if self._source is None or not path.startswith(self._prefix):
            return None
        return self._source.open(path[len(self._prefix) :])


class JoinedTrees:
    """Several trees as one; folders may be in more than one of them, files may not."""

    def __init__(self, trees: Sequence[PlacedTree]) -> None:
        self._trees = trees
        self._owners: dict[bytes, PlacedTree] = {}

    def entries(self) -> Iterator[Stat]:
        listed = [((stat, tree) for stat in tree.entries()) for tree in self._trees]
        before: Stat | None = None
        for stat, tree in heapq.merge(*listed, key=lambda pair: pair[0].path.split(b"/")):
            if before is not None and stat.path == before.path:
                if not stat.mode & before.mode & filemode.DIR:
                    shown = stat.path.decode("utf-8", "backslashreplace")
                    raise UserError(
                        f"cannot overwrite {shown} from another platform "
                        "when split option is disabled"
                    )
                continue
            before = stat
            if not stat.mode & filemode.TYPE:
                self._owners[stat.path] = tree
            yield stat

    def open(self, path: bytes) -> int | None:
        owner = self._owners.get(path)
        return None if owner is None else owner.open(path)


def place(trees: Sequence[OutputTree], stack: ExitStack) -> list[PlacedTree]:
    """Open trees; `stack` closes them."""
    return [stack.enter_context(PlacedTree(tree)) for tree in trees]
