"""`LazyReference`: a definition that is solved when something of it is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from torana.core.cache.ref import Tree
from torana.core.errors import NotFoundError
from torana.core.llb.definition import Definition
from torana.core.pool import run_blocking
from torana.core.solver.keys import ExportableKey
from torana.core.solver.op import Result as SolverResult
from torana.gateway.bridge import files
from torana.gateway.client.client import Stat

Solve = Callable[[Definition], Awaitable[tuple[SolverResult | None, Sequence[ExportableKey]]]]
"""Solves a definition; gives its result, and the keys that lead to it."""


class LazyReference:
    """A reference of the in-process bridge."""

    def __init__(self, made_by: Definition, solve: Solve) -> None:
        self._definition = made_by
        self._solve = solve
        self._tree: Tree | None = None
        self._is_solved = False
        self.keys: Sequence[ExportableKey] = ()  # what leads to it, once it is solved

    async def tree(self) -> Tree | None:
        """Solve it and give the tree, None for an empty one."""
        if not self._is_solved:
            result, self.keys = await self._solve(self._definition)
            self._tree = cast("Tree | None", result)
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
        await tree.ready()
        return await run_blocking(_read, tree, path, offset, length)

    async def read_dir(self, path: str, *, include: str | None = None) -> Sequence[Stat]:
        tree = await self.tree()
        if tree is None:
            return []
        await tree.ready()
        return await run_blocking(_list, tree, path, include)

    async def stat(self, path: str) -> Stat:
        tree = await self.tree()
        if tree is None:
            raise NotFoundError(f"stat {path}: no such file or directory")
        await tree.ready()
        return await run_blocking(_stat, tree, path)


def _read(tree: Tree, path: str, offset: int, length: int | None) -> bytes:
    with tree.mount() as root:
        return files.read(root, path, offset, length)


def _list(tree: Tree, path: str, include: str | None) -> list[Stat]:
    with tree.mount() as root:
        return files.listing(root, path, include)


def _stat(tree: Tree, path: str) -> Stat:
    with tree.mount() as root:
        return files.status(root, path)
