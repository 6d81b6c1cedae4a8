"""`Solver`: solves edges for any number of jobs, doing equal work once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from torana.core.errors import ConflictError
from torana.core.solver.cache import StoreCache
from torana.core.solver.failure import UnknownJobError
from torana.core.solver.graph import ActiveVertex, Graph
from torana.core.solver.job import Job
from torana.core.solver.op import Op, Result
from torana.core.solver.opcontext import OpContext
from torana.core.solver.scheduler import Scheduler
from torana.core.solver.slots import Slots
from torana.core.solver.stores import KeyStore, ResultStore
from torana.core.solver.vertex import Edge, Vertex

if TYPE_CHECKING:
    from torana.core.solver.inputs import CachedResult
    from torana.core.solver.keys import ExportableKey
    from torana.core.solver.pipe import Pipe

LOOKUP_S: Final = 6.0
"""How long a job that is asked for may take to appear."""
KEPT_S: Final = 10.0
"""How long a job can be looked up after its end."""


class Solver:
    """Lives on one event loop. `slots` limit executions of ops that are limited.

    Solvers of one worker may share stores and slots.
    """

    def __init__(
        self,
        *,
        resolve_op: Callable[[Vertex, OpContext], Op],
        keys: KeyStore,
        results: ResultStore,
        slots: Slots | None = None,
    ) -> None:
        self.cache = StoreCache(keys, results)
        self.graph = Graph(
            resolve_op=resolve_op,
            cache=self.cache,
            slots=slots or Slots(0),
            on_free_slot=lambda: self.scheduler.grant_later(),
            build_nested=self._build_nested,
            forget_edge=lambda edge: self.scheduler.index.release(edge),
        )
        self.scheduler = Scheduler(self.graph, keys.flush)
        self._keys = keys
        self._jobs: dict[str, Job] = {}
        self._ended: dict[str, tuple[Job, asyncio.TimerHandle]] = {}
        self._appeared = asyncio.Event()

    # Jobs

    def new_job(self, job_id: str, *, session_id: str = "") -> Job:
        """Start a build.

        Raises:
            ConflictError: a job with this id is active.
        """
        if job_id in self._jobs:
            raise ConflictError(f"job id is in use: `{job_id}`")
        self._forget(job_id)
        job = self._jobs[job_id] = Job(self, job_id, session_id)
        self._appeared.set()
        self._appeared = asyncio.Event()
        return job

    def jobs(self) -> Iterator[Job]:
        """Give the jobs that run."""
        return iter(list(self._jobs.values()))

    async def find_job(self, job_id: str, *, timeout_s: float = LOOKUP_S) -> Job:
        """Give a job that runs, has just ended, or appears in time.

        Raises:
            UnknownJobError: there is none.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    if job_id in self._jobs:
                        return self._jobs[job_id]
                    if job_id in self._ended:
                        return self._ended[job_id][0]
                    await self._appeared.wait()
        except TimeoutError:
            raise UnknownJobError(f"no such job {job_id}") from None

    async def let_go(self, job: Job) -> None:
        """End what a job holds, and the job; for `Job.discard`."""
        for vertex in self.graph.let_go(job):
            await vertex.release()
        if self._jobs.get(job.id) is job:
            del self._jobs[job.id]
            timer = asyncio.get_running_loop().call_later(KEPT_S, self._forget, job.id)
            self._ended[job.id] = (job, timer)

    def _forget(self, job_id: str) -> None:
        ended = self._ended.pop(job_id, None)
        if ended is not None:
            ended[1].cancel()

    async def close(self) -> None:
        """Discard all jobs."""
        for job in self.jobs():
            await job.discard()
        for job_id in list(self._ended):
            self._forget(job_id)
        self._keys.flush()

    # Solving

    async def solve(
        self, edge: Edge, job: Job, running: dict[Pipe, asyncio.Future[None]]
    ) -> CachedResult:
        """Solve an edge for a job; what was learnt is written when it is done."""
        vertex = self.graph.load(edge.vertex, job)
        found = await self.scheduler.build(vertex.edge(edge.index), running)
        self._keys.flush()
        return found

    async def _build_nested(
        self, parent: ActiveVertex, edge: Edge
    ) -> tuple[Result | None, list[ExportableKey]]:
        vertex = self.graph.load(edge.vertex, parent)
        found = await self.scheduler.build(vertex.edge(edge.index), {})
        result = None if found.result is None else found.result.clone()
        return result, list(found.keys[:1])  # all keys have the whole chain
