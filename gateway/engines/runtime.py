"""`chosen_runtime`: the container runtime of an engine, looked for when the first step needs it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from torana.core.ops.runtime import Runtime
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
