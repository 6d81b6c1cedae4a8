"""`chosen_runtime`: the container runtime of an engine, looked for when the first step needs it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from torana.core.ops.runtime import (
    ContainerSpec,
    ExitStatus,
    Output,
    RunningContainer,
    Runtime,
    Streams,
)
from torana.core.worker import ChosenRuntime
from torana.plugins.manager import PluginManager


def chosen_runtime(root: Path, plugins: PluginManager, *, wanted: str = "") -> ChosenRuntime:
    """Give the first runtime that works, or the one called `wanted` (else `TORANA_RUNTIME`)."""
    name = wanted or os.environ.get("TORANA_RUNTIME", "")

    async def choose() -> Runtime:
        from torana.plugins.runtimes.choose import choose_runtime

        choice = await choose_runtime(plugins.runtimes(), root / "executor", wanted=name)
        return choice.runtime

    return ChosenRuntime(lambda: asyncio.get_running_loop().create_task(choose()))


class LimitedRuntime:
    """A runtime that runs so many steps at once, whatever builds they are of."""

    def __init__(self, runtime: Runtime, steps: asyncio.Semaphore) -> None:
        self.name = runtime.name
        self._runtime = runtime
        self._steps = steps

    async def probe(self, directory: Path) -> str | None:
        return await self._runtime.probe(directory)

    async def run(self, spec: ContainerSpec, output: Output) -> ExitStatus:
        async with self._steps:
            return await self._runtime.run(spec, output)

    async def start(self, spec: ContainerSpec, streams: Streams) -> RunningContainer:
        return await self._runtime.start(spec, streams)  # a frontend's, which may wait for a step
