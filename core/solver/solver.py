"""`Solver` and `Job`: the table of active vertices, and the builds that hold them.

Spec: the solver reference, sections 3 (shared graph) and 9 (twins of ignored caches).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from torana.core.errors import ConflictError
from torana.core.oci.digest import Digest
from torana.core.solver.context import VertexContext
from torana.core.solver.op import Op, Result
from torana.core.solver.progress import ProgressEvent, ProgressSink, VertexEvent
from torana.core.solver.shared import run_all
from torana.core.solver.state import State, cancelled_event
from torana.core.solver.stores import KeyStore, ResultStore
from torana.core.solver.vertex import Edge, Vertex


class Solver:
    """Solves edges for any number of jobs, doing equal work once. Lives on one event loop."""

    def __init__(
        self,
        *,
        resolve_op: Callable[[Vertex, VertexContext], Op],
        keys: KeyStore,
        results: ResultStore,
        max_parallelism: int = 0,
    ) -> None:
        self.resolve_op = resolve_op
        self.keys = keys
        self.results = results
        self.slots = asyncio.Semaphore(max_parallelism) if max_parallelism > 0 else None
        self._jobs: dict[str, Job] = {}
        self._states: dict[str, State] = {}
        self._locks: dict[object, tuple[asyncio.Lock, int]] = {}

    def new_job(self, job_id: str) -> Job:
        """Start a build.

        Raises:
            ConflictError: a job with this id is active.
        """
        if job_id in self._jobs:
            raise ConflictError(f"job id is in use: `{job_id}`")
        job = self._jobs[job_id] = Job(self, job_id)
        return job

    async def close(self) -> None:
        """Discard all jobs."""
        for job in list(self._jobs.values()):
            await job.discard()

    @asynccontextmanager
    async def lock(self, identity: object) -> AsyncIterator[None]:
        """Let only one of the executions that would have the same key go on at a time."""
        lock, users = self._locks.get(identity, (asyncio.Lock(), 0))
        self._locks[identity] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[identity][1] - 1
            if users:
                self._locks[identity] = (lock, users)
            else:
                del self._locks[identity]

    def load(self, root: Vertex, job: Job) -> State:
        """Give the state of `root`; it and everything below are held by `job` from now on."""
        loaded: dict[Vertex, State] = {}
        pending = [root]
        while pending:
            vertex = pending[-1]
            missing = [each.vertex for each in vertex.inputs if each.vertex not in loaded]
            if vertex not in loaded and missing:
                pending.extend(missing)
                continue
            pending.pop()
            if vertex not in loaded:
                loaded[vertex] = self._state(vertex, loaded)
        job.hold(loaded[root])
        return loaded[root]

    def _state(self, vertex: Vertex, loaded: dict[Vertex, State]) -> State:
        key: str = vertex.digest
        twin = f"{Digest.of_text(f'{key}-ignorecache')}"
        active = self._states.get(key)
        if vertex.options.ignore_cache and active is not None and not active.ignore_cache:
            key = twin
        elif not vertex.options.ignore_cache and twin in self._states:
            key = twin
        state = self._states.get(key)
        if state is None:
            inputs = tuple(loaded[each.vertex].output(each.index) for each in vertex.inputs)
            state = self._states[key] = State(self, vertex, inputs)
            state.table_key = key
        return state

    async def let_go(self, job: Job, states: set[State]) -> None:
        """End the hold of `job`; what nobody holds any more is stopped and released."""
        dead: list[State] = []
        for state in states:
            state.jobs.discard(job)
            if not state.jobs:
                dead.append(state)
                if self._states.get(state.table_key) is state:
                    del self._states[state.table_key]
        await run_all([state.stop for state in dead])
        for state in dead:
            await state.release()

    def forget(self, job: Job) -> None:
        """Make the id of `job` free again."""
        if self._jobs.get(job.id) is job:
            del self._jobs[job.id]


class Job:
    """One build: holds vertices, and records their progress for its sinks."""

    def __init__(self, solver: Solver, job_id: str) -> None:
        self.id = job_id
        self._solver = solver
        self._states: set[State] = set()
        self._events: list[ProgressEvent] = []
        self._sinks: list[ProgressSink] = []
        self._latest: dict[Digest, VertexEvent] = {}
        self._is_discarded = False

    async def build(self, edge: Edge) -> Result | None:
        """Solve `edge`; give a handle that the caller releases, None for scratch.

        Cancelling it stops all work that no other build waits for.

        Raises:
            SolveError: an op failed.
        """
        if self._is_discarded:
            raise ConflictError(f"job has ended: `{self.id}`")
        result = await self._solver.load(edge.vertex, self).output(edge.index).result.get()
        if self._is_discarded:  # while this task was about to wake up: the result may be gone
            raise asyncio.CancelledError
        return None if result is None else result.clone()

    def hold(self, root: State) -> None:
        """Keep `root` and everything below alive until the job is discarded."""
        found: list[State] = []
        pending = [root]
        while pending:
            state = pending.pop()
            if state not in self._states:
                self._states.add(state)
                found.append(state)
                pending.extend(output.state for output in reversed(state.inputs))
        for state in reversed(found):
            state.jobs.add(self)
            if state.announcement.digest not in self._latest:
                self.emit(state.announcement)
            if state.event is not state.announcement:
                self.emit(state.event)

    def subscribe(self, sink: ProgressSink) -> None:
        """Send all events to `sink`, those of the past first."""
        for event in self._events:
            sink.emit(event)
        self._sinks.append(sink)

    def emit(self, event: ProgressEvent) -> None:
        """Record an event and send it to all sinks."""
        if isinstance(event, VertexEvent):
            self._latest[event.digest] = event
        self._events.append(event)
        for sink in self._sinks:
            sink.emit(event)

    async def discard(self) -> None:
        """End the job; results handed out stay valid. Doing it again does nothing."""
        if self._is_discarded:
            return
        self._is_discarded = True
        states, self._states = self._states, set()
        await self._solver.let_go(self, states)
        for event in list(self._latest.values()):
            if event.started is not None and event.completed is None:
                self.emit(cancelled_event(event))
        self._solver.forget(self)
