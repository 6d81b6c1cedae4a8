"""Time the solver on graphs of file ops: executed, fully cached, and by number of vertices.

A graph is a chain (a tenth), a fan on its end (most of it), joins of 40, and diamonds; all of it is
copies and small files. Needs root. Prints CPU milliseconds a vertex, so that other work on the
machine counts little: from definition to result, of which loading the definition, and the bytes
that a vertex takes while a job holds it.

    python benchmarks/solver.py [vertices ...] [--profile]
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import pstats
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from torana.core import llb
from torana.core.llb.definition import Definition
from torana.core.loading import load
from torana.core.solver.solver import Solver
from torana.core.solver.vertex import Edge
from torana.core.worker import Worker

JOIN = 40
ROUNDS = 15


def graph(count: int) -> Definition:
    """Give a graph of about `count` vertices: chain of count/10, fan of 8/10, joins, diamonds."""
    base = llb.scratch().file(llb.mkdir("/d"))
    for number in range(count // 10):
        base = base.file(llb.mkfile(f"/d/chain{number}", b"x"))
    fan = [base.file(llb.mkfile("/leaf", str(n).encode())) for n in range(count * 8 // 10)]
    tip = base
    for number in range((count - count // 10 - len(fan) - len(fan) // JOIN) // 3):
        text = str(number).encode()
        left, right = (tip.file(llb.mkfile(f"/{side}", text)) for side in "lr")
        tip = left.file(llb.copy(right, "/r", f"/r{number}"))
    for first in range(0, len(fan), JOIN):
        actions = llb.mkdir(f"/join{first}")
        for number, leaf in enumerate(fan[first : first + JOIN]):
            actions = actions.copy(leaf, "/leaf", f"/join{first}/{number}")
        tip = tip.file(actions)
    return tip.marshal()


class Bench:
    def __init__(self, root: Path) -> None:
        self.worker = Worker.open(root)

    def solver(self) -> Solver:
        nothing: Any = None  # file ops need no runtime
        return self.worker.solver(find_source=lambda _: None, runtime=nothing)

    async def solve(self, definition: Definition) -> tuple[float, float]:
        """Give CPU seconds of loading, and of all."""
        started = time.process_time()
        edge = load(definition)
        loaded = time.process_time()
        await self.build(edge)
        return loaded - started, time.process_time() - started

    async def build(self, edge: Edge) -> int:
        """Give the bytes that the solver holds when the build is done."""
        solver = self.solver()
        job = solver.new_job("bench")
        try:
            await job.build(edge)
            return tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
        finally:
            await job.discard()
            await solver.close()


async def measure(bench: Bench, count: int) -> None:
    definition = graph(count)
    vertices = len(definition.ops) - 1
    _, cold = await bench.solve(definition)
    rounds = [await bench.solve(definition) for _ in range(ROUNDS)]
    loading, cached = (1000 * min(values) / vertices for values in zip(*rounds, strict=True))
    edge = load(definition)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    held = await bench.build(edge) - before
    tracemalloc.stop()
    print(
        f"{vertices:>8} vertices   executed {1000 * cold / vertices:6.2f} ms"
        f"   cached {cached:6.3f} ms, of which loading {loading:6.3f} ms"
        f"   {1000 / cached:8.0f} vertices/s   {held / vertices:6.0f} bytes",
        flush=True,
    )


async def profile(bench: Bench, count: int) -> None:
    definition = graph(count)
    await bench.solve(definition)
    profiler = cProfile.Profile()
    profiler.enable()
    await bench.solve(definition)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main(arguments: list[str]) -> None:
    counts = [int(each) for each in arguments if each.isdigit()] or [250, 500, 1000, 2000]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder))
        try:
            for count in counts:
                run = profile if "--profile" in arguments else measure
                asyncio.run(run(bench, count))
        finally:
            bench.worker.close()


if __name__ == "__main__":
    main(sys.argv[1:])
