"""`SharedOp`: the op of an active vertex, with its slow calls made once for everybody.

Failures are shared too; only a cancellation is forgotten, so that who comes later runs it again.

Spec: the solver reference, sections 1 and 10.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from torana.core.errors import NotFoundError, ToranaError
from torana.core.records import dataclass
from torana.core.solver.call import SharedCall
from torana.core.solver.failure import FailedInput, SolveError
from torana.core.solver.op import CacheMap, CacheMapInput, Op, Result
from torana.core.solver.pipe import Pipe
from torana.core.solver.stores import is_random

if TYPE_CHECKING:
    from torana.core.solver.cache import CacheRecord
    from torana.core.solver.graph import ActiveVertex
    from torana.core.solver.keys import ExportableKey

LOAD_FAILURES = (NotFoundError, ToranaError, OSError)
"""What may go wrong with a stored result; it is made anew then."""


@dataclass(frozen=True, slots=True)
class Executed:
    """All outputs, owned by the vertex, and the keys of what was built from inside."""

    outputs: tuple[Result | None, ...]
    created: float  # seconds since the epoch
    nested_keys: tuple[ExportableKey, ...]


class SharedOp:
    """Calls of one op. Each of the methods answers a pipe."""

    __slots__ = ("_contents", "_definition", "_execution", "_maps", "_op", "_owner")

    def __init__(self, owner: ActiveVertex) -> None:
        self._owner = owner
        self._op: Op | None = None
        # Made when needed: most vertices of a cached build need none of them.
        self._definition: CacheMap | None = None
        self._maps: list[SharedCall[tuple[CacheMap, bool]]] | None = None
        self._contents: dict[int, SharedCall[str | None]] | None = None
        self._execution: SharedCall[Executed] | None = None

    def ask_map(self, index: int, pipe: Pipe) -> None:
        """Answer with cache map number `index`, and whether it is the last."""
        if self._definition is None and self._maps is None:
            self._definition = self._define()
        if self._definition is not None:
            pipe.complete((self._definition, True))
            return
        if self._maps is None:
            self._maps = []
        while len(self._maps) <= index:
            self._maps.append(SharedCall())
        self._maps[index].join(pipe, lambda: self._map(index))

    def _define(self) -> CacheMap | None:
        """Give the cache map if that takes no work, fails in no way and is not to be reported."""
        owner = self._owner
        if not owner.inputs or owner.sources:
            return None
        try:
            define = getattr(self._instance(), "define", None)
            answer = None if define is None else define()
        except ToranaError:
            return None  # it fails again where that is reported
        return None if answer is None else _complete(answer, len(owner.inputs))

    def digest_input(
        self, position: int, need: CacheMapInput, result: Result | None, pipe: Pipe
    ) -> None:
        """Make an input local; answer with the digest of its content, None if it has none."""
        if self._contents is None:
            self._contents = {}
        call = self._contents.setdefault(position, SharedCall())
        call.join(pipe, lambda: self._digest(position, need, result))

    def execute(self, inputs: Sequence[Result | None], pipe: Pipe) -> None:
        """Answer with all outputs."""
        if self._execution is None:
            self._execution = SharedCall()
        self._execution.join(pipe, lambda: self._execute(inputs))

    def load(self, record: CacheRecord, pipe: Pipe) -> None:
        """Answer with a stored result."""
        call: SharedCall[Result | None] = SharedCall()
        call.join(pipe, lambda: self._load(record))

    # The calls themselves

    def _instance(self) -> Op:
        if self._op is None:
            owner = self._owner
            self._op = owner.graph.resolve_op(owner.vertex, owner.context)
        return self._op

    @property
    def instance(self) -> Op | None:
        """The op, once it was asked for anything; what it resolved is read from it afterwards."""
        return self._op

    async def _map(self, index: int) -> tuple[CacheMap, bool]:
        owner = self._owner
        has_inputs = bool(owner.inputs)
        await owner.cache.prepare()
        answer, is_last = await owner.reporter.run(
            lambda: self._ask(index), is_reported=not has_inputs
        )
        return _complete(answer, len(owner.inputs)), is_last or has_inputs

    async def _ask(self, index: int) -> tuple[CacheMap, bool]:
        return await self._instance().cache_map(index)

    async def _digest(
        self, position: int, need: CacheMapInput, result: Result | None
    ) -> str | None:
        if result is None:
            return None
        reporter = self._owner.reporter
        present = result

        async def compute() -> str | None:
            if need.preprocess is not None:
                await need.preprocess(present)
            return None if need.content_digest is None else await need.content_digest(present)

        try:
            digest = await reporter.run(compute, is_reported=False)
        except SolveError as err:
            if err.vertex is self._owner.vertex and err.input is None:
                err.input = FailedInput(position, result.clone())
                self._owner.cleanups.append(err.input.release)
            raise
        return None if digest is None or is_random(digest) else digest

    async def _execute(self, inputs: Sequence[Result | None]) -> Executed:
        owner = self._owner
        op = self._instance()
        context = owner.context
        context.nested_keys.clear()
        borrowed = cast("Sequence[Result]", inputs)
        if getattr(op, "is_limited", False):
            async with owner.graph.slots.take(lambda: owner.rank, owner.graph.on_free_slot):
                outputs = await owner.reporter.run(lambda: op.exec(borrowed))
        else:
            outputs = await owner.reporter.run(lambda: op.exec(borrowed))
        for result in outputs:
            owner.own(result)
        return Executed(tuple(outputs), time.time(), tuple(context.nested_keys))

    async def _load(self, record: CacheRecord) -> Result | None:
        owner = self._owner
        result = await owner.cache.load(record)
        owner.own(result)
        owner.reporter.report_cached()
        return result


def _complete(answer: CacheMap, input_count: int) -> CacheMap:
    """Add what an op left out for its last inputs."""
    missing = input_count - len(answer.inputs)
    if missing > 0:
        return replace(answer, inputs=answer.inputs + (CacheMapInput(),) * missing)
    return answer
