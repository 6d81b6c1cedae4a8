"""`ActiveEdge`: the state machine of one edge.

An edge wakes up when something it asked for has news, or somebody asks it for something. It takes
the news in, answers what it can, and asks for what it still needs; it never waits. States only
rise: keys by definition, keys by content, the result.

Spec: the solver reference, section 5.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torana.core.errors import UserError
from torana.core.solver.asking import Situation, wanted_state
from torana.core.solver.cache import CacheRecord
from torana.core.solver.export import KeyExporter, MergedExporter
from torana.core.solver.failure import SolveError
from torana.core.solver.inputs import CachedResult, Input
from torana.core.solver.keys import ExportableKey, SelectedKey
from torana.core.solver.lookup import Lookup
from torana.core.solver.pipe import EdgeState, Pipe, ignore
from torana.core.solver.sharedop import LOAD_FAILURES, Executed

if TYPE_CHECKING:
    from torana.core.solver.graph import ActiveVertex
    from torana.core.solver.scheduler import Scheduler


class ActiveEdge(Lookup):
    """One output of an active vertex. `owner` is the edge that it was merged into, if any."""

    __slots__ = (
        "_map_pipe",
        "_situation",
        "_tried",
        "_work_pipe",
        "error",
        "has_failed",
        "incoming",
        "is_postponed",
        "is_queued",
        "merged",
        "news",
        "outgoing",
        "owner",
        "secondary",
    )

    def __init__(self, vertex: ActiveVertex, index: int) -> None:
        super().__init__(vertex, index)
        self.owner: ActiveEdge | None = None
        self.error: BaseException | None = None
        self.secondary: list[tuple[int, SelectedKey]] = []  # keys of the inputs of merged edges
        self.merged: list[ActiveVertex] = []
        # What it waits for
        self._map_pipe: Pipe | None = None
        self._work_pipe: Pipe | None = None
        self._tried: CacheRecord | None = None
        self._situation: Situation | None = None
        # What the scheduler keeps of it
        self.incoming: dict[Pipe, None] = {}
        self.outgoing: dict[Pipe, None] = {}
        self.news: list[Pipe] = []
        self.is_queued = False
        self.is_postponed = False
        self.has_failed = False

    def __repr__(self) -> str:
        return f"<edge {self.vertex.vertex.name}[{self.index}] {self.state.name}>"

    @property
    def is_final(self) -> bool:
        return self.error is not None or self.result is not None

    @property
    def is_busy(self) -> bool:
        """Whether something that it asked for is still to come."""
        return bool(self.outgoing) or self.is_postponed

    def fail(self, error: BaseException) -> None:
        """End with an error; the first one counts."""
        if self.error is None:
            self.error = error

    # Waking up

    def wake(self, scheduler: Scheduler) -> None:
        """Take news, answer, and ask for more."""
        self.is_postponed = False
        news, self.news = self.news, []
        for pipe in news:
            pipe.has_news = False
            if pipe.is_completed:
                self.outgoing.pop(pipe, None)
            pipe.handle(pipe)
        if news:
            self.rise()
        desired, is_done = self._answer()
        if is_done:
            return
        is_asked = self._ask_map(scheduler)
        if self._work_pipe is not None:
            return
        if desired == EdgeState.COMPLETE and self._work(scheduler):
            return
        is_asked |= self._ask_inputs(scheduler, desired, is_forced=self.is_match_impossible)
        if not is_asked and not self.is_busy and self.incoming:
            self._ask_inputs(scheduler, desired, is_forced=True)

    # Answers to those who ask

    def _answer(self) -> tuple[EdgeState, bool]:
        """Answer requests; gives the highest state wanted, and whether nothing is left to do."""
        desired = state = self.state
        is_busy = self.is_busy
        can_finish = True
        is_wanted = False
        if not self.is_final:
            for pipe in self.incoming:
                if pipe.is_cancelled:
                    continue
                is_wanted = True
                if pipe.desired > state:
                    desired = max(desired, pipe.desired)
                    # More keys than the asking side knew are an answer, too.
                    has_more = pipe.key_count != len(self.keys)
                    if is_busy or pipe.desired == EdgeState.COMPLETE or not has_more:
                        can_finish = False
            if is_wanted and not self.keys and is_busy:
                can_finish = False
        if can_finish:
            self._finish_all()
            return desired, True
        for pipe in list(self.incoming):
            if pipe.is_cancelled or (not is_busy and state >= pipe.desired):
                self._finish(pipe)
            elif pipe.known != (self.state, len(self.keys)):
                pipe.known = (self.state, len(self.keys))
                pipe.update(self)
        return desired, False

    def _finish_all(self) -> None:
        """Finish all requests; while something still runs, it is cancelled and one stays open."""
        pipes = list(self.incoming)
        if self.is_busy:
            for outgoing in list(self.outgoing):
                outgoing.cancel()
            kept = next((pipe for pipe in pipes if not pipe.is_cancelled), None)
            if kept is None and pipes:
                kept = pipes[0]
            pipes = [pipe for pipe in pipes if pipe is not kept]
        for pipe in pipes:
            self._finish(pipe)

    def _finish(self, pipe: Pipe) -> None:
        del self.incoming[pipe]
        error = self.error
        if error is None and pipe.is_cancelled:
            error = asyncio.CancelledError()
        pipe.complete(self, error)

    # Cache maps

    def _ask_map(self, scheduler: Scheduler) -> bool:
        if self._map_pipe is not None or self.is_last_map or self.has_records:
            return False
        self._map_pipe = pipe = scheduler.call(self, self._take_map)
        self.vertex.op.ask_map(len(self.root_digests), pipe)
        return True

    def _take_map(self, pipe: Pipe) -> None:
        if not pipe.is_completed:
            return
        self._map_pipe = None
        if pipe.error is None:
            answer, is_last = pipe.value
            self.take_map(answer, is_last)
        elif not pipe.is_cancelled:
            self.fail(pipe.error)

    # Inputs

    def _ask_inputs(self, scheduler: Scheduler, desired: EdgeState, *, is_forced: bool) -> bool:
        """Ask inputs for what is needed of them; tells if anything new was asked."""
        situation = Situation.of(
            self.inputs,
            desired=desired,
            is_forced=is_forced,
            has_keys=bool(self.keys),
            has_records=self.has_records,
        )
        is_equal = situation == self._situation
        items = list(self.inputs.to_ask) if is_equal else self.inputs.items
        self._situation = situation
        self.inputs.to_ask.clear()
        is_asked = False
        for item in items:
            wanted = wanted_state(situation, item)
            if item.state < wanted:
                is_asked |= self._ask_input(scheduler, item, wanted)
            is_asked |= self._prepare_input(scheduler, item)
        return is_asked

    def _ask_input(self, scheduler: Scheduler, item: Input, wanted: EdgeState) -> bool:
        if item.pipe is not None and not item.pipe.is_completed:
            if item.pipe.desired == wanted and not item.pipe.is_cancelled:
                return False
            item.pipe.cancel()
        vertex, index = self.vertex.inputs[item.position]
        item.pipe = scheduler.ask(vertex.edge(index), wanted, self, self._take_input, item)
        return True

    def _take_input(self, pipe: Pipe) -> None:
        item = pipe.item
        assert item is not None
        self.inputs.to_ask[item] = None
        if pipe.is_completed and pipe.error is not None and not pipe.is_cancelled:
            self.fail(pipe.error)
        if isinstance(pipe.value, ActiveEdge):
            self.take_input(item, pipe.value)

    def _prepare_input(self, scheduler: Scheduler, item: Input) -> bool:
        """Have a complete input made local and hashed."""
        if item.state != EdgeState.COMPLETE or item.content_pipe is not None:
            return False
        if self.cache_map is None or not item.is_prepared or item.is_content_done:
            return False
        assert item.result is not None
        item.content_pipe = pipe = scheduler.call(self, self._take_content)
        pipe.item = item
        self.vertex.op.digest_input(item.position, item.need, item.result.result, pipe)
        return True

    def _take_content(self, pipe: Pipe) -> None:
        item = pipe.item
        assert item is not None
        self.inputs.to_ask[item] = None
        if not pipe.is_completed:
            return
        item.content_pipe = None
        if pipe.error is None:
            self.take_content(item, pipe.value)
        elif not pipe.is_cancelled:
            self.fail(pipe.error)

    # The result

    def _work(self, scheduler: Scheduler) -> bool:
        """Load the best record or execute, when it is time to; tells if there is nothing to ask."""
        if not self.has_records and not self.is_executable:
            return False
        if self.has_keys_changed:  # an equal edge may be found first
            scheduler.postpone(self)
            return True
        if self.has_records:
            self._tried = self.best_record()
            for pipe in list(self.outgoing):
                if isinstance(pipe.target, ActiveEdge):
                    pipe.cancel()
            self._work_pipe = scheduler.call(self, self._take_load)
            self.vertex.op.load(self._tried, self._work_pipe)
            return True
        results = [item.result.result if item.result else None for item in self.inputs.items]
        self._work_pipe = scheduler.call(self, self._take_execution)
        self.vertex.op.execute(results, self._work_pipe)
        return True

    def _take_load(self, pipe: Pipe) -> None:
        if not pipe.is_completed:
            return
        self._work_pipe = None
        record = self._tried
        assert record is not None
        if pipe.error is None:
            override = self.vertex.vertex.options.export_cache
            exporter = KeyExporter(record.key, [record], edge=self, override=override)
            self._complete(CachedResult(pipe.value, [ExportableKey(record.key, exporter)]))
        elif not pipe.is_cancelled:
            if isinstance(pipe.error, LOAD_FAILURES):
                self.drop_record(record)
            else:
                self.fail(pipe.error)

    def _take_execution(self, pipe: Pipe) -> None:
        if not pipe.is_completed:
            return
        self._work_pipe = None
        if pipe.error is not None:
            if not pipe.is_cancelled:
                self.fail(pipe.error)
            return
        executed: Executed = pipe.value
        count = len(executed.outputs)
        if not 0 <= self.index < count:
            error = UserError(f"invalid output {self.index}: the step has {count}")
            self.fail(SolveError(self.vertex.vertex, error))
            return
        self._commit(executed)

    def _commit(self, executed: Executed) -> None:
        """Save an output by all its keys; who asks later hears of them, too."""
        result = executed.outputs[self.index]
        override = self.vertex.vertex.options.export_cache
        nested = [key.exporter for key in executed.nested_keys]
        committed = self.committed_keys()
        exporters = []
        for key in committed:
            record = self.vertex.graph.cache.save(key, result, executed.created)
            records = [] if record is None else [record]
            exporters.append(KeyExporter(key, records, edge=self, override=override))
        merged = MergedExporter([*exporters, *nested])
        keys = [ExportableKey(key, merged) for key in committed]
        is_fresh = self.ignores_cache or any(item.is_fresh for item in self.inputs.items)
        if not is_fresh:
            self.keys += keys
        self._complete(CachedResult(result, keys, is_fresh=is_fresh))

    def _complete(self, result: CachedResult) -> None:
        self.result = result
        self.state = EdgeState.COMPLETE
        for vertex in self.merged:
            if vertex.reporter.is_silent:
                vertex.reporter.report_cached()

    # Merging

    def give_up(self, target: ActiveEdge) -> None:
        """Leave everything to `target`, which computes the same."""
        for pipe in self.incoming:
            pipe.target = target
        target.incoming.update(self.incoming)
        self.incoming.clear()
        for pipe in list(self.outgoing):
            pipe.origin, pipe.handle = target, ignore
            target.outgoing[pipe] = None
        target.news += self.news
        for pipe in self.news:
            pipe.origin, pipe.handle = target, ignore
        self.news.clear()
        handed_over = list(self.outgoing)
        self.outgoing.clear()
        for pipe in handed_over:
            pipe.cancel()
        for item in self.inputs.items:
            target.secondary += [(item.position, key) for key in item.selected()]
            target.secondary += [
                (item.position, key.through(item.need.selector)) for key in item.keys.values()
            ]
        target.merged.append(self.vertex)
        self.owner = target
