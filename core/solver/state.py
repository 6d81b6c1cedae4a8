"""`State` and `Output`: one active vertex and its outputs, shared by all jobs that hold it.

An output learns keys in steps, each done at most once and only on demand:

* `fast`: from definitions alone; runs nothing.
* `slow`: also from the content of inputs; runs those inputs whose content may decide.
* `result`: a cached result by any key, else the inputs are run and then the op.

Two sets of keys are kept. `keys` are those by which dependants may match: a vertex that ignores the
cache has none, nor has what was built from it unless its content is known. `committed` are those
under which results are saved and from which dependants are linked. Random keys are in neither.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from torana.core.errors import NotFoundError, ToranaError, UserError
from torana.core.solver.context import VertexContext
from torana.core.solver.failure import SolveError
from torana.core.solver.op import CacheMap, CacheMapInput, Op, Result
from torana.core.solver.progress import ProgressEvent, VertexEvent
from torana.core.solver.shared import Shared, T, run_all
from torana.core.solver.stores import CONTENT_OUTPUT, Record, is_random
from torana.core.solver.vertex import Vertex

if TYPE_CHECKING:
    from torana.core.solver.solver import Job, Solver

CANCELLED = "context canceled"
"""Error text of a vertex whose work was cancelled, as BuildKit's clients know it."""


class State:
    """An active vertex: its op, cache maps, execution and progress."""

    def __init__(self, solver: Solver, vertex: Vertex, inputs: tuple[Output, ...]) -> None:
        self.solver = solver
        self.vertex = vertex
        self.inputs = inputs
        self.ignore_cache = vertex.options.ignore_cache
        self.table_key: str = vertex.digest
        self.jobs: set[Job] = set()
        self.context = VertexContext(vertex, self.emit)
        self.announcement = VertexEvent(
            digest=vertex.digest,
            name=vertex.name,
            inputs=tuple(edge.vertex.digest for edge in vertex.inputs),
            progress_group=vertex.options.progress_group,
        )
        self.event = self.announcement
        self.owned: list[Result] = []
        self._op: Op | None = None
        self._maps: list[Shared[tuple[CacheMap, bool]]] = []
        self._outputs: dict[int, Output] = {}
        self.contents: dict[int, str] = {}
        self._local = [Shared(partial(self._make_local, i)) for i in range(len(inputs))]
        self._hashed = [Shared(partial(self._hash, i)) for i in range(len(inputs))]
        self._prepared = Shared(self._prepare)
        self.executed = Shared(self._execute)

    # Progress

    def emit(self, event: ProgressEvent) -> None:
        for job in self.jobs:
            job.emit(event)

    def _report(self, event: VertexEvent) -> None:
        self.event = event
        if not event.error and event.started is not None:
            self._report_inputs()
        self.emit(event)

    def _report_inputs(self) -> None:
        """Report inputs that never ran as cached, those below them first."""
        now = time.time()
        found: list[State] = []
        pending = [output.state for output in self.inputs]
        while pending:
            state = pending.pop()
            if state.event is state.announcement:
                state.event = replace(state.announcement, started=now, completed=now, cached=True)
                found.append(state)
                pending.extend(output.state for output in state.inputs)
        for state in reversed(found):
            state.emit(state.event)

    async def run(self, call: Callable[[], Awaitable[T]], *, is_reported: bool = True) -> T:
        """Do work of the op: report it and turn its failures into `SolveError`."""
        started = replace(self.announcement, started=time.time())
        if is_reported:
            self._report(started)
        error = ""
        try:
            return await call()
        except asyncio.CancelledError as err:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                error = CANCELLED
                raise
            error = "cancelled by the op"
            raise SolveError(self.vertex, UserError(error)) from err
        except SolveError as err:
            error = str(err)
            raise
        except ToranaError as err:
            error = str(err)
            raise SolveError(self.vertex, err) from err
        except BaseException as err:
            error = str(err) or type(err).__name__
            raise
        finally:
            if is_reported:
                self._report(replace(started, completed=time.time(), error=error))
            elif error and error != CANCELLED:
                now = time.time()
                self._report(replace(self.announcement, started=now, completed=now, error=error))

    def report_cached(self) -> None:
        now = time.time()
        self._report(replace(self.announcement, started=now, completed=now, cached=True))

    # Op and cache maps

    def output(self, index: int) -> Output:
        found = self._outputs.get(index)
        if found is None:
            found = self._outputs[index] = Output(self, index)
        return found

    def op(self) -> Op:
        if self._op is None:
            self._op = self.solver.resolve_op(self.vertex, self.context)
        return self._op

    async def cache_map(self, index: int = 0) -> tuple[CacheMap, bool]:
        """Give cache map number `index`, and whether it is the last."""
        while len(self._maps) <= index:
            self._maps.append(Shared(partial(self._ask_map, len(self._maps))))
        return await self._maps[index].get()

    async def _ask_map(self, index: int) -> tuple[CacheMap, bool]:
        async def ask() -> tuple[CacheMap, bool]:
            return await self.op().cache_map(index)

        answer, is_last = await self.run(ask, is_reported=not self.inputs)
        missing = len(self.inputs) - len(answer.inputs)
        if missing > 0:
            answer = replace(answer, inputs=answer.inputs + (CacheMapInput(),) * missing)
        return answer, is_last or bool(self.inputs)

    async def stop(self) -> None:
        """Cancel everything that runs, and wait for it."""
        for output in list(self._outputs.values()):
            for call in (output.result, output.slow, output.fast):
                await call.stop()
        calls: list[Shared[Any]] = [self.executed, self._prepared, *self._hashed, *self._local]
        for each in (*calls, *self._maps):
            await each.stop()

    async def release(self) -> None:
        """Release all results; nothing may run any more."""
        owned, self.owned = self.owned, []
        for result in owned:
            await result.release()

    # Inputs

    async def _make_local(self, position: int) -> Result | None:
        result = await self.inputs[position].result.get()
        answer, _ = await self.cache_map()
        preprocess = answer.inputs[position].preprocess
        if preprocess is not None and result is not None:
            await self.run(partial(preprocess, result), is_reported=False)
        return result

    async def _hash(self, position: int) -> None:
        result = await self._local[position].get()
        answer, _ = await self.cache_map()
        function = answer.inputs[position].content_digest
        if function is None or result is None:
            return
        digest = await self.run(partial(function, result), is_reported=False)
        if digest is not None and not is_random(digest):
            self.contents[position] = self.solver.keys.root_key(digest, CONTENT_OUTPUT)

    async def hash_inputs(self, positions: Sequence[int]) -> None:
        """Run the inputs at `positions` and learn the keys of their content."""
        await run_all([self._hashed[position].get for position in positions])

    async def _prepare(self) -> list[Result | None]:
        await self.hash_inputs(range(len(self.inputs)))
        return [await local.get() for local in self._local]

    async def prepare(self) -> list[Result | None]:
        """Run all inputs; their content keys are known then."""
        return await self._prepared.get()

    async def identity(self) -> object:
        """Give what is equal for executions that would have the same key; after `prepare`."""
        answer, _ = await self.cache_map()
        parts = [
            (self.contents.get(i), tuple(sorted(each.committed)), answer.inputs[i].selector)
            for i, each in enumerate(self.inputs)
        ]
        return (answer.digest, tuple(parts), self.ignore_cache)

    # Execution

    async def _execute(self) -> list[Result | None]:
        inputs = await self.prepare()
        answer, _ = await self.cache_map()
        op = self.op()
        async with AsyncExitStack() as stack:
            if self.solver.slots is not None and getattr(op, "is_limited", False):
                await stack.enter_async_context(self.solver.slots)
            borrowed = cast("Sequence[Result]", inputs)
            outputs = list(await self.run(lambda: op.exec(borrowed)))
        self.owned.extend(result for result in outputs if result is not None)
        created = time.time()
        for index, result in enumerate(outputs):
            await self._save(answer, self.output(index), result, created)
        return list(outputs)

    async def _save(
        self, answer: CacheMap, output: Output, result: Result | None, created: float
    ) -> None:
        store = self.solver.keys
        if self.inputs:
            targets = self._link(answer, output)
        else:
            digests = [(await each.get())[0].digest for each in self._maps if each.is_started]
            targets = {
                store.root_key(digest, output.index) for digest in digests if not is_random(digest)
            }
        record = self.solver.results.record_id(result) if targets else None
        if record is not None:
            for target in targets:
                store.save(target, record, created)
        output.committed = set(targets)
        is_tainted = any(
            i not in self.contents and not each.keys for i, each in enumerate(self.inputs)
        )
        output.keys = set() if self.ignore_cache or is_tainted else set(targets)

    def _link(self, answer: CacheMap, output: Output) -> set[str]:
        """Find or make the key of an executed output and link it from all keys of its inputs."""
        per_input: list[set[str]] = []
        for position, each in enumerate(self.inputs):
            if position not in self.contents and not each.committed:
                return set()
            per_input.append(output.targets(answer, position, is_committed=True))
        matching = set.intersection(*per_input)
        target = min(matching) if matching else uuid.uuid4().hex
        output.link(answer, target)
        return {target}


class Output:
    """One output of an active vertex."""

    def __init__(self, state: State, index: int) -> None:
        self.state = state
        self.index = index
        self.keys: set[str] = set()
        self.committed: set[str] = set()
        self._failed: set[str] = set()  # records that could not be loaded
        self.fast = Shared(self._find_fast)
        self.slow = Shared(self._find_slow)
        self.result = Shared(self._find_result)

    def targets(self, answer: CacheMap, position: int, *, is_committed: bool = False) -> set[str]:
        """Give the keys that this output has as far as the input at `position` is concerned.

        With `is_committed`, a known content decides alone: equal definitions may have had another.
        """
        query = self.state.solver.keys.query
        content = self.state.contents.get(position)
        found: set[str] = set()
        if content is not None:
            found = query((content,), position, answer.digest, self.index, None)
            if is_committed:
                return found
        source = self.state.inputs[position]
        known = source.committed if is_committed else source.keys
        selector = answer.inputs[position].selector
        return found | query(known, position, answer.digest, self.index, selector)

    def link(self, answer: CacheMap, target: str) -> None:
        """Link `target` from everything that is known of the inputs."""
        link = self.state.solver.keys.link
        for position, each in enumerate(self.state.inputs):
            selector = answer.inputs[position].selector
            for key in each.committed:
                link(key, position, self.index, answer.digest, selector, target)
            content = self.state.contents.get(position)
            if content is not None:
                link(content, position, self.index, answer.digest, None, target)

    def _match(self, answer: CacheMap) -> list[int]:
        """Look keys up by what is known of the inputs; give the inputs without any match."""
        found = [self.targets(answer, i) for i in range(len(self.state.inputs))]
        self._learn(set.intersection(*found))
        return [position for position, each in enumerate(found) if not each]

    def _learn(self, keys: set[str]) -> None:
        self.keys |= keys
        self.committed |= keys

    def _records(self) -> list[tuple[Record, str]]:
        """Give the records whose results exist, newest first, each with its key."""
        store, results = self.state.solver.keys, self.state.solver.results
        found: list[tuple[Record, str]] = []
        for key in self.keys:
            for record in store.records(key):
                if record.id in self._failed:
                    continue
                if results.exists(record.id):
                    found.append((record, key))
                else:
                    store.drop(record.id)
        return sorted(found, key=lambda item: (-item[0].created, item[0].id, item[1]))

    async def _find_fast(self) -> None:
        state = self.state
        if state.executed.is_done:
            return
        answer, is_last = await state.cache_map()
        if state.inputs:
            if not state.ignore_cache:
                await run_all([each.fast.get for each in state.inputs])
                self._match(answer)
            return
        number = 0
        while True:
            if not is_random(answer.digest):
                key = state.solver.keys.root_key(answer.digest, self.index)
                self.committed.add(key)
                if not state.ignore_cache:
                    self.keys.add(key)
            if is_last or self._records():
                return
            number += 1
            answer, is_last = await state.cache_map(number)

    async def _find_slow(self) -> None:
        state = self.state
        await self.fast.get()
        if state.ignore_cache or not state.inputs or state.executed.is_done:
            return
        if self.result.is_done or self._records():
            return
        answer, _ = await state.cache_map()
        everything = list(range(len(state.inputs)))
        positions = self._match(answer) or everything
        await run_all([partial(self._settle, answer, position) for position in positions])
        unmatched = self._match(answer)
        hashable = [i for i in everything if answer.inputs[i].content_digest is not None]
        if self._records() or not set(unmatched) <= set(hashable):
            return  # found, or an input is left that cannot match whatever the others contain
        for batch in ([i for i in hashable if i in unmatched], hashable):
            if batch:
                await state.hash_inputs(batch)
                if self._match(answer) or self._records():
                    return

    async def _settle(self, answer: CacheMap, position: int) -> None:
        """Find the keys of one input; without a match it will be needed in any case, so run it.

        Inputs settle side by side: a slow one does not hold up the start of the others.
        """
        source = self.state.inputs[position]
        await source.slow.get()
        if self.targets(answer, position):
            return
        if answer.inputs[position].content_digest is not None:
            await self.state.hash_inputs([position])
        else:
            await source.result.get()

    async def _find_result(self) -> Result | None:
        state = self.state
        if not state.executed.is_started:
            for step in (self.fast, self.slow):
                await step.get()
                is_found, result = await self._load()
                if is_found:
                    return result
            await state.prepare()
        if not state.executed.is_done:
            async with state.solver.lock(await state.identity()):
                # Another vertex with the same key may have been executed meanwhile.
                if not state.executed.is_started and not state.ignore_cache:
                    answer, _ = await state.cache_map()
                    if state.inputs:
                        self._match(answer)
                    is_found, result = await self._load()
                    if is_found:
                        return result
                outputs = await state.executed.get()
        else:
            outputs = await state.executed.get()
        if not 0 <= self.index < len(outputs):
            error = UserError(f"invalid output {self.index}: the step has {len(outputs)}")
            raise SolveError(state.vertex, error)
        return outputs[self.index]

    async def _load(self) -> tuple[bool, Result | None]:
        """Load the newest record that can be loaded; True with its result when there is one."""
        state = self.state
        if state.ignore_cache:
            return False, None
        records = self._records()
        for record, _ in records:
            try:
                result = await state.solver.results.load(record.id)
            except NotFoundError:
                state.solver.keys.drop(record.id)
                continue
            except (ToranaError, OSError):
                self._failed.add(record.id)
                continue
            if result is not None:
                state.owned.append(result)
            if state.inputs:
                # Other keys are of other contents: what is built on this result is not theirs.
                self.keys = {key for other, key in records if other.id == record.id}
                self.committed = set(self.keys)
                answer, _ = await state.cache_map()
                if state.contents:
                    for key in self.keys:
                        self.link(answer, key)
            state.report_cached()
            return True, result
        return False, None


def cancelled_event(event: VertexEvent) -> VertexEvent:
    """Give the end of a vertex that was running when its job ended."""
    return replace(event, completed=time.time(), error=CANCELLED)
