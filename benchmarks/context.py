"""Compare builds of one `COPY` of a big folder with other builders, side by side in one run.

20,000 files of 1 KiB: the first build, a build with nothing changed, and one with a single file
changed. Needs root; dockerd (Debian's docker.io) and buildah are left out where they are missing.
Prints medians of wall-clock seconds of whole processes. `TORANA_BENCH_ROUNDS` and
`TORANA_BENCH_FILES` change the numbers.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peers import TORANA, buildah, command, docker

ROUNDS = int(os.environ.get("TORANA_BENCH_ROUNDS", "3"))
FILES = int(os.environ.get("TORANA_BENCH_FILES", "20000"))
PHASES = ("first", "no change", "one file")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A builder: `forget` brings it back to an empty cache, and is not timed."""

    build: Callable[[], None]
    forget: Callable[[], None]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as text:
        folder = Path(text)
        context = folder / "context"
        make_context(context)
        with docker(folder) as client:
            contestants = {
                "torana": torana(folder, context, {}),
                "torana, no memo": torana(folder, context, {"TORANA_NO_MEMO": "1"}),
            }
            if client is not None:
                contestants["docker build"] = docker_contestant(client, context)
            if (peer := buildah(folder)) is not None:
                contestants["buildah bud --layers"] = buildah_contestant(peer, context)
            report(measure(contestants, context))


def make_context(context: Path) -> None:
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /src/\n")
    for number in range(FILES):
        folder = context / f"folder{number // 200:03}"
        if number % 200 == 0:
            folder.mkdir()
        (folder / f"file{number:05}.txt").write_bytes(b"%05d\n" % number + os.urandom(1018))


def torana(folder: Path, context: Path, more: dict[str, str]) -> Contestant:
    store = folder / f"store{len(more)}"

    def forget() -> None:
        shutil.rmtree(store, ignore_errors=True)

    build = [TORANA, "build", "-t", "bench", str(context)]
    return Contestant(command(build, {"TORANA_ROOT": str(store), **more}), forget)


def docker_contestant(client: list[str], context: Path) -> Contestant:
    build = [*client, "build", "-q", "-t", "bench", str(context)]
    prune = command([*client, "system", "prune", "-a", "-f"], {})
    return Contestant(command(build, {"DOCKER_BUILDKIT": "1"}), prune)


def buildah_contestant(client: list[str], context: Path) -> Contestant:
    build = [*client, "bud", "--layers", "--isolation", "chroot", "-q", str(context)]
    return Contestant(command(build, {}), command([*client, "rmi", "-a", "-f"], {}))


def measure(contestants: dict[str, Contestant], context: Path) -> dict[str, dict[str, list[float]]]:
    """Run all in turn, phase by phase, so that a busy machine is fair to everyone."""
    times: dict[str, dict[str, list[float]]] = {
        name: {phase: [] for phase in PHASES} for name in contestants
    }
    for round_ in range(ROUNDS):
        for each in contestants.values():
            each.forget()
        for phase in PHASES:
            if phase == "one file":
                changed = context / "folder000" / "file00000.txt"
                changed.write_bytes(b"changed\n" * 128 if round_ % 2 else os.urandom(1024))
            time.sleep(0.1)  # nobody trusts files that were changed just now
            for name, each in contestants.items():
                os.sync()
                started = time.perf_counter()
                each.build()
                times[name][phase].append(time.perf_counter() - started)
    return times


def report(times: dict[str, dict[str, list[float]]]) -> None:
    print(f"{FILES} files, medians of {ROUNDS}, seconds")
    print(" " * 22 + "".join(f"{phase:>12}" for phase in PHASES))
    for name, phases in times.items():
        medians = (statistics.median(phases[phase]) for phase in PHASES)
        print(f"{name:<22}" + "".join(f"{median:12.3f}" for median in medians))


if __name__ == "__main__":
    main()
