"""Limits of runtimes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from torana.gateway.engines.runtime import LimitedRuntime


class Counting:
    """Notes how many steps run at once."""

    name = "counting"

    def __init__(self) -> None:
        self.running = self.most = 0

    async def run(self, spec: Any, output: Any) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        return 0


async def test_builds_share_one_limit() -> None:
    counting, steps = Counting(), asyncio.Semaphore(2)
    builds = [LimitedRuntime(cast("Any", counting), steps) for _ in range(3)]
    await asyncio.gather(*(build.run(cast("Any", None), cast("Any", None)) for build in builds * 3))
    assert counting.most == 2 and counting.running == 0
