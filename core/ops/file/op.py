"""`FileVertexOp`: a file op as the solver sees it.

Spec: fileop reference, sections 2 and 12.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import cast

from torana.core.cache.copies import Copies
from torana.core.cache.local import LocalTree
from torana.core.cache.pending import all_ready
from torana.core.cache.ref import ImmutableRef, MutableRef, RefStore, Tree
from torana.core.errors import UserError
from torana.core.llb.ops import Copy, FileOp, MkDir, MkFile, Rm, Symlink
from torana.core.oci.digest import Digest
from torana.core.ops.file import actions
from torana.core.ops.file.copy import copy
from torana.core.ops.file.errors import FileActionError
from torana.core.ops.file.key import InputKey, copy_key, file_key
from torana.core.ops.file.owner import Owner, read_small, resolve_owner
from torana.core.ops.file.plan import Plan, Step, owner_of, plan
from torana.core.ops.file.reuse import Reuse
from torana.core.ops.file.root import Root
from torana.core.pool import run_blocking, tasks_together
from torana.core.solver.op import CacheMap, CacheMapInput, Preprocess, Result


class FileVertexOp:
    """Runs the actions of a file op on snapshots.

    Inputs are `Tree`s, None standing for scratch; outputs are `ImmutableRef`s with `name`, the
    vertex's, as description. `make_local` goes into the cache map as every input's preprocess.
    """

    is_limited = True  # by the solver's `max_parallelism`

    def __init__(
        self,
        op: FileOp,
        *,
        name: str,
        input_count: int,
        refs: RefStore,
        make_local: Preprocess | None = None,
        copies: Copies | None = None,
    ) -> None:
        self._op = op
        self._name = name
        self._input_count = input_count
        self._refs = refs
        self._make_local = make_local
        self._copies = copies

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        return self.define(), True

    def define(self) -> CacheMap:
        key = file_key(self._op.actions, self._input_count)
        inputs = tuple(self._cache_input(entry) for entry in key.inputs)
        return CacheMap(digest=key.digest, inputs=inputs)

    def _cache_input(self, entry: InputKey) -> CacheMapInput:
        async def content(result: Result) -> Digest | None:
            tree = cast("Tree | None", result)
            return None if tree is None else await tree.content_digest(entry.selectors)

        return CacheMapInput(
            selector=entry.selector,
            content_digest=content if entry.selectors else None,
            preprocess=self._make_local,
        )

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        """Run what the outputs need.

        Raises:
            InvalidFileOpError: the indexes make no sense.
            FileActionError: an action failed; it carries the number of the action.
        """
        planned = plan(self._op.actions, len(inputs))
        trees = [cast("Tree | None", tree) for tree in inputs]
        await all_ready(trees)
        async with _Run(planned, trees, self._refs, self._name, self._copies) as run:
            await run.run()
            return [run.take_output(slot) for slot in planned.outputs]


class _Run:
    """One execution: which slots have a snapshot, and which one is still being written."""

    def __init__(
        self,
        planned: Plan,
        inputs: Sequence[Tree | None],
        refs: RefStore,
        name: str,
        copies: Copies | None,
    ) -> None:
        self._plan = planned
        self._inputs = inputs
        self._refs = refs
        self._name = name
        self._copies = copies
        self._mutable: dict[int, MutableRef] = {}
        self._committed: dict[int, ImmutableRef] = {}
        self._earlier: list[ImmutableRef] = []
        self._copied: dict[int, tuple[Digest, Reuse]] = {}

    async def __aenter__(self) -> _Run:
        return self

    async def __aexit__(self, *_: object) -> None:
        for mutable in self._mutable.values():
            await mutable.release()
        for ref in (*self._committed.values(), *self._earlier):
            await ref.release()

    def take_output(self, slot: int) -> ImmutableRef:
        return self._committed[slot].clone()

    async def run(self) -> None:
        """Run steps as soon as what they read is there; a failure cancels the others."""
        done = {step.index + self._plan.input_count: asyncio.Event() for step in self._plan.steps}
        async with tasks_together() as group:
            for step in self._plan.steps:
                group.create_task(self._step_when_ready(step, done))

    async def _step_when_ready(self, step: Step, done: dict[int, asyncio.Event]) -> None:
        for slot in step.reads:
            if slot in done:
                await done[slot].wait()
        slot = step.index + self._plan.input_count
        mutable = await self._begin(step.input)
        self._mutable[slot] = mutable
        try:
            await run_blocking(self._execute, step, mutable)
        except FileActionError as err:
            err.action_index = step.index
            raise
        except UserError as err:
            raise FileActionError(err.message, action_index=step.index, hint=err.hint) from err
        except OSError as err:
            text = (err.strerror or str(err)).lower()
            raise FileActionError(text, action_index=step.index) from err
        if slot in self._plan.committed:
            self._committed[slot] = await mutable.commit()
            del self._mutable[slot]
            if slot in self._copied:
                key, reuse = self._copied[slot]
                await run_blocking(self._remember, key, self._committed[slot], reuse)
        done[slot].set()

    async def _begin(self, slot: int) -> MutableRef:
        """Continue the only use of an earlier result, or start a snapshot on top of a tree."""
        if slot in self._mutable:
            return self._mutable.pop(slot)
        if slot in self._committed:
            return await self._refs.new_mutable(self._committed[slot], description=self._name)
        tree = self._inputs[slot] if slot >= 0 else None
        if tree is None:
            return await self._refs.new_mutable(None, description=self._name)
        parent = await tree.snapshot()
        try:
            return await self._refs.new_mutable(parent, description=self._name)
        finally:
            await parent.release()

    def _tree(self, slot: int) -> Tree | None:
        if slot < 0:
            return None
        if slot < self._plan.input_count:
            return self._inputs[slot]
        return self._committed[slot]

    # Below: in a thread of the pool.

    def _execute(self, step: Step, mutable: MutableRef) -> None:
        def read(slot: int, path: bytes) -> bytes | None:
            tree = self._tree(slot)
            if tree is None:
                raise FileActionError("invalid missing user mount")
            with tree.mount() as folder, Root(folder) as root:
                return read_small(root, path)

        owner = resolve_owner(owner_of(step.action), read)
        reuse: Reuse | None = None
        with ExitStack() as stack:
            # The source first: of two mounts the one that is written to should go away first.
            source = None
            tree = self._tree(step.secondary)
            if isinstance(step.action, Copy):
                source = stack.enter_context(_source_root(tree))
            root = stack.enter_context(Root(stack.enter_context(mutable.mount())))
            match step.action:
                case MkDir():
                    actions.mkdir(step.action, root, owner)
                case MkFile():
                    actions.mkfile(step.action, root, owner)
                case Symlink():
                    actions.symlink(step.action, root, owner)
                case Rm():
                    actions.rm(step.action, root)
                case Copy():
                    assert source is not None
                    verify = getattr(tree, "verify_unchanged", None)
                    is_local = verify is not None
                    reuse = self._begin_reuse(step, owner)
                    copy(step.action, source, root, owner, is_local=is_local, reuse=reuse)
                    if verify is not None:
                        verify(*(() if reuse is None else (reuse.taken,)))
        if reuse is not None and self._copies is not None:
            reuse.link(self._copies.layer(mutable))

    def _begin_reuse(self, step: Step, owner: Owner | None) -> Reuse | None:
        """Look for an earlier copy of the same. A snapshot that is still written to gets none."""
        slot = step.index + self._plan.input_count
        tree = self._tree(step.secondary)
        if self._copies is None or slot not in self._plan.committed:
            return None
        if not isinstance(tree, LocalTree) or not isinstance(step.action, Copy):
            return None
        key = copy_key(str(tree.folder), step.action, owner)
        earlier = self._copies.find(key)
        if earlier is not None:
            self._earlier.append(earlier.ref)
        reuse = Reuse(tree.known_files, earlier)
        self._copied[slot] = (key, reuse)
        return reuse

    def _remember(self, key: Digest, ref: ImmutableRef, reuse: Reuse) -> None:
        if self._copies is not None and reuse.copied:
            self._copies.save(key, ref, reuse.copied, reuse.earlier)


@contextmanager
def _source_root(tree: Tree | None) -> Iterator[Root]:
    """Open the source of a copy; scratch is an empty directory."""
    with ExitStack() as stack:
        if tree is not None:
            yield stack.enter_context(Root(stack.enter_context(tree.mount())))
            return
        with tempfile.TemporaryDirectory(prefix="torana-") as folder:
            opened = stack.enter_context(Root(folder))
        yield opened  # its name has gone already: nothing is left if we are killed
