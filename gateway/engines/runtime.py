"""`chosen_runtime`: the container runtime of an engine, looked for when the first step needs it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from torana.core.ops.runtime import (
    ContainerSpec,
    ExitStatus,
    Output,
    RunningContainer,
    Runtime,
    Streams,
)
from torana.plugins.manager import PluginManager


def chosen_runtime(root: Path, plugins: PluginManager, *, wanted: str = "") -> ChosenRuntime:
    """Give the first runtime that works, or the one called `wanted` (else `TORANA_RUNTIME`)."""
    name = wanted or os.environ.get("TORANA_RUNTIME", "")

    async def choose() -> Runtime:
        from torana.plugins.runtimes.choose import choose_runtime

        choice = await choose_runtime(plugins.runtimes(name), root / "executor", wanted=name)
        return choice.runtime

    return ChosenRuntime(lambda: asyncio.get_running_loop().create_task(choose()))


class ChosenRuntime:
    """A runtime that is looked for when the first step needs it."""

    name = "auto"

    def __init__(self, choose_runtime: Callable[[], asyncio.Task[Runtime]]) -> None:
        self._choose = choose_runtime
        self._task: asyncio.Task[Runtime] | None = None

    async def probe(self, directory: Path) -> str | None:
        return await (await self._chosen()).probe(directory)

    async def run(self, spec: ContainerSpec, output: Output) -> ExitStatus:
        return await (await self._chosen()).run(spec, output)

    async def start(self, spec: ContainerSpec, streams: Streams) -> RunningContainer:
        return await (await self._chosen()).start(spec, streams)

    async def _chosen(self) -> Runtime:
        if self._task is None:
            self._task = self._choose()
        return await asyncio.shield(self._task)
