"""`OnceOp`: an op that is run once by all builds that want it at the same time, in any process.

The solver of one build already does equal work once. This is for the others: equal is what has
the same definition key, and inputs with the same content, or the same record where the content is
not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast

from torana.core.cache.executions import Execution, Executions
from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.core.ops.steplogs import SharedLog, StepLogs
from torana.core.solver.op import CacheMap, CacheMapInput, Op, Result
from torana.core.solver.stores import ResultStore, is_random

_SCRATCH_INPUT = "scratch"


class OnceOp:
    """Wraps `op`.

    `since` is in seconds since the epoch: what was done earlier has its keys stored by now. `log`
    is what `op` prints to; whoever waits in this process reads along, by means of `logs`.
    """

    def __init__(
        self,
        op: Op,
        *,
        executions: Executions,
        results: ResultStore,
        since: float,
        log: SharedLog,
        logs: StepLogs,
    ) -> None:
        self._op = op
        self._executions = executions
        self._results = results
        self._since = since
        self._log = log
        self._logs = logs
        self._maps: dict[int, CacheMap] = {}

    def __getattr__(self, name: str) -> Any:
        """Give what else is known of the op."""
        return getattr(self._op, name)

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        answer, is_last = await self._op.cache_map(index)
        self._maps[index] = answer
        return answer, is_last

    def define(self) -> CacheMap | None:
        """Give the only cache map if the op knows it without work."""
        define = getattr(self._op, "define", None)
        answer: CacheMap | None = None if define is None else define()
        if answer is not None:
            self._maps[0] = answer
        return answer

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        identity = await self._identity(cast("Sequence[Result | None]", inputs))
        if identity is None:
            return await self._op.exec(inputs)
        async with self._executions.alone(identity, self._waiting(identity)) as execution:
            found = await self._outcome(execution)
            if found is not None:
                return cast("Sequence[Result]", found)
            with self._logs.share(identity, self._log):
                outputs = await self._op.exec(inputs)
            try:
                ids = [self._results.record_id(output) for output in outputs]
                if None not in ids:
                    execution.finish(cast("list[str]", ids))
            except BaseException:
                await _release(outputs)
                raise
            return outputs

    @contextmanager
    def _waiting(self, identity: str) -> Iterator[None]:
        """Show what the build prints that is waited for."""
        self._log.log(2, b"waiting: another build is running the same step\n")
        running = self._logs.find(identity)
        with nullcontext() if running is None else running.read_by(self._log):
            yield

    async def _outcome(self, execution: Execution) -> list[Result | None] | None:
        """Give what another build has got; None if nothing, or if it is gone already."""
        ids = execution.outcome(self._since)
        if ids is None:
            return None
        found: list[Result | None] = []
        try:
            for id in ids:
                found.append(await self._results.load(id))
        except NotFoundError:
            await _release(found)
            return None
        self._log.log(2, b"done by another build\n")
        return found

    async def _identity(self, inputs: Sequence[Result | None]) -> str | None:
        """Give what is equal for equal work; None for what may only run by itself."""
        digests = [self._maps[index].digest for index in sorted(self._maps)]
        if not digests or any(is_random(digest) for digest in digests):
            return None
        needs = self._maps[0].inputs
        parts = []
        for position, result in enumerate(inputs):
            need = needs[position] if position < len(needs) else CacheMapInput()
            part = await self._input_identity(need, result)
            if part is None:
                return None
            parts.append([part, need.selector])
        return Digest.of_text(json.dumps([digests[-1], parts]))

    async def _input_identity(self, need: CacheMapInput, result: Result | None) -> str | None:
        if result is None:
            return _SCRATCH_INPUT
        if need.content_digest is not None:
            content = await need.content_digest(result)
            if content is not None:
                return None if is_random(content) else content
        return self._results.record_id(result)


async def _release(results: Sequence[Result | None]) -> None:
    for result in results:
        if result is not None:
            await result.release()
