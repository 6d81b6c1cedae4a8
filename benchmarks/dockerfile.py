"""Time the way from a Dockerfile's text to marshalled LLB, without an engine.

The files grow from 500 instructions in 50 stages to ten times that; the time should grow with them.
Prints the best of several rounds as milliseconds of processor time, so that other load on the
machine counts little.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from torana.frontends.dockerfile import DockerfileFrontend
from torana.frontends.kit.offline import OfflineClient

ROUNDS = 9
SIZES = ((500, 50), (1000, 100), (2500, 250), (5000, 500))


def text(instructions: int, stages: int) -> str:
    """Give a Dockerfile of that size; every stage but some goes on from the one before."""
    each = instructions // stages
    lines = []
    for stage in range(stages):
        base = f"stage{stage - 1}" if stage % 5 else "busybox"
        lines.append(f"FROM {base} AS stage{stage}")
        lines += [_instruction(stage, number) for number in range(each - 1)]
    return "\n".join(lines) + "\n"


def _instruction(stage: int, number: int) -> str:
    kinds = (
        f'ENV NAME{stage}="value {number}" PATH=/opt/{number}/bin:$PATH',
        f"WORKDIR /area/{stage}",
        f"COPY --chown=1000:1000 src/{number} lib/ ./target-{number}/",
        f"RUN --mount=type=cache,target=/cache/{number} make -C /src target{stage}",
        f'LABEL org.example.{stage}="text {number}" other=x',
        f"RUN <<EOT\nset -e\nmake {stage}\nEOT",
        f"COPY --from=stage{max(stage - 2, 0)} /area /prev" if stage > 1 else "ADD a.tar /x/",
        f"EXPOSE {8000 + stage}/tcp",
        "RUN apt-get update && \\\n    apt-get install -y \\\n      one \\\n # comment\n      two",
    )
    return kinds[number % len(kinds)]


def measure(instructions: int, stages: int) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder, "Dockerfile").write_text(text(instructions, stages))
        folders = {"context": Path(folder), "dockerfile": Path(folder)}
        best = float("inf")
        for _ in range(ROUNDS):
            best = min(best, asyncio.run(_once(folders)))
    return best


async def _once(folders: dict[str, Path]) -> float:
    started = time.process_time()
    await DockerfileFrontend().build(OfflineClient(folders))
    return time.process_time() - started


def main() -> None:
    for instructions, stages in SIZES:
        spent = measure(instructions, stages)
        print(
            f"{instructions:5d} instructions, {stages:3d} stages: {spent * 1000:7.1f} ms, "
            f"{spent / instructions * 1e6:5.1f} us each"
        )


if __name__ == "__main__":
    main()
