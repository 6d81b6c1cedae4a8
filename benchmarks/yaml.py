"""Time the way from a YAML build file's text to marshalled LLB, without an engine.

Each file has a matrix of 10 x 10 variants besides its plain stages, and the target reads all of
them. Prints the best of several rounds as milliseconds of processor time; the time should grow with
the number of steps.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from torana.frontends.kit.offline import OfflineClient
from torana.frontends.yaml import YamlFrontend

ROUNDS = 5
SIZES = (250, 500, 1000, 2000, 4000)
VARIANTS = 100
_PER_STAGE = 20


def text(steps: int) -> str:
    """Give a file with that many steps written in it, in a chain of stages and in a matrix."""
    lines = [
        "version: 1",
        "default: all",
        "args: {VERSION: {type: version, default: 1.10}}",
        "stages:",
    ]
    stages = max(1, steps // _PER_STAGE - 1)
    for stage in range(stages):
        base = f"s{stage - 1}" if stage % 5 else "busybox:1"
        lines += [f"  s{stage}:", f"    from: {base}", "    steps:"]
        lines += [_step(stage, number) for number in range(_PER_STAGE)]
    axis = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
    lines += ["  unit:", f"    matrix: {{a: {axis}, b: {axis}}}", f"    from: s{stages - 1}"]
    lines += ["    steps:", *(_step("matrix", number) for number in range(_PER_STAGE))]
    names = [f"unit-{a}-{b}" for a in range(10) for b in range(10)]
    lines += ["  all:", "    from: scratch", "    steps:"]
    lines += [f"      - {{copy: /out, from: {name}, to: /{name}/}}" for name in names]
    return "\n".join(lines) + "\n"


def _step(stage: object, number: int) -> str:
    kinds = (
        f"run: make target{number}\n        cache: [/root/.cache]\n        env: {{N: '{number}'}}",
        f"copy: [src/{number}, lib]\n        to: ./target-{number}/\n        chown: 1000:1000",
        f"run: build\n        env: {{VERSION: '${{{{ args.VERSION }}}}', STAGE: '{stage}'}}",
        f"write: /etc/{number}\n        content: for ${{{{ target.platform }}}}",
        f"mkdir: /area/{number}\n        if: target.os == 'linux'",
    )
    return f"      - {kinds[number % len(kinds)]}"


def measure(steps: int) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder, "build.yaml").write_text(text(steps))
        folders = {"context": Path(folder), "dockerfile": Path(folder)}
        return min(asyncio.run(_once(folders)) for _ in range(ROUNDS))


async def _once(folders: dict[str, Path]) -> float:
    started = time.process_time()
    await YamlFrontend().build(OfflineClient(folders))
    return time.process_time() - started


def main() -> None:
    for steps in SIZES:
        spent = measure(steps)
        built = steps - _PER_STAGE + VARIANTS * (_PER_STAGE + 1)
        print(
            f"{steps:5d} steps, {built:5d} with variants: {spent * 1000:7.1f} ms, "
            f"{spent / built * 1e6:5.1f} us each"
        )


if __name__ == "__main__":
    main()
