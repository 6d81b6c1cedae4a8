"""`LazyReference`: a definition that is solved when something of it is needed."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from torana.core.cache.ref import Tree
from torana.core.errors import NotFoundError, UserError
from torana.core.llb.definition import Definition
from torana.core.pool import run_blocking
from torana.core.snapshots.rootfs import resolve
from torana.core.solver.op import Result as SolverResult
from torana.gateway.client.client import Stat

Solve = Callable[[Definition], Awaitable[SolverResult | None]]


class LazyReference:
    """A reference of the in-process bridge."""

    def __init__(self, made_by: Definition, solve: Solve) -> None:
        self._definition = made_by
        self._solve = solve
        self._tree: Tree | None = None
        self._is_solved = False

    async def tree(self) -> Tree | None:
        """Solve it and give the tree, None for an empty one."""
        if not self._is_solved:
            self._tree = cast("Tree | None", await self._solve(self._definition))
            self._is_solved = True
        return self._tree

    async def evaluate(self) -> None:
        await self.tree()

    async def definition(self) -> Definition | None:
        return self._definition

    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        tree = await self.tree()
        if tree is None:
            raise NotFoundError(f"open {path}: no such file or directory")
        return await run_blocking(_read, tree, path, offset, length)

    async def read_dir(self, path: str, *, include: str | None = None) -> Sequence[Stat]:
        tree = await self.tree()
        if tree is None:
            return []
        return await run_blocking(_list, tree, path, include)

    async def stat(self, path: str) -> Stat:
        tree = await self.tree()
        if tree is None:
            raise NotFoundError(f"stat {path}: no such file or directory")
        return await run_blocking(_stat, tree, path)


def _read(tree: Tree, path: str, offset: int, length: int | None) -> bytes:
    with tree.mount() as root:
        full = resolve(os.fsencode(root), os.fsencode(path))
        try:
            with open(full, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise UserError(f"read {path}: not a regular file")
                file.seek(offset)
                return file.read(-1 if length is None else length)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"open {path}: no such file or directory") from None
        except IsADirectoryError:
            raise UserError(f"read {path}: is a directory") from None


def _list(tree: Tree, path: str, include: str | None) -> list[Stat]:
    with tree.mount() as root:
        full = resolve(os.fsencode(root), os.fsencode(path))
        try:
            names = sorted(os.listdir(full))
        except FileNotFoundError:
            raise NotFoundError(f"open {path}: no such file or directory") from None
        return [
            _status(full + b"/" + name, os.fsdecode(name))
            for name in names
            if include is None or fnmatch.fnmatchcase(os.fsdecode(name), include)
        ]


def _stat(tree: Tree, path: str) -> Stat:
    with tree.mount() as root:
        full = resolve(os.fsencode(root), os.fsencode(path), follow_last=False)
        try:
            return _status(full, path.rpartition("/")[2])
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"stat {path}: no such file or directory") from None


def _status(full: bytes, shown: str) -> Stat:
    status = os.lstat(full)
    is_link = stat.S_ISLNK(status.st_mode)
    return Stat(
        path=shown,
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        linkname=os.fsdecode(os.readlink(full)) if is_link else "",
        devmajor=os.major(status.st_rdev),
        devminor=os.minor(status.st_rdev),
    )
