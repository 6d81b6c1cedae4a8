"""Compare an unchanged build of twelve steps with other builders, side by side in one run.

Needs root, busybox, dockerd (Debian's docker.io) and buildah; what is missing is left out. Prints
medians of wall-clock seconds of whole processes, and their ratio to docker's.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peers import TORANA, buildah, command, docker

ROUNDS = 11
DOCKERFILE = "FROM scratch\nCOPY busybox /bin/busybox\n" + "".join(
    f"COPY file{number} /files/file{number}\n" for number in range(11)
)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as text:
        folder = Path(text)
        context = folder / "context"
        context.mkdir()
        shutil.copy("/bin/busybox", context)
        for number in range(11):
            (context / f"file{number}").write_text(f"{number}\n")
        (context / "Dockerfile").write_text(DOCKERFILE)
        time.sleep(0.1)  # the memo does not trust files that were changed just now
        run_all(folder, context)


def run_all(folder: Path, context: Path) -> None:
    store = {"TORANA_ROOT": str(folder / "store")}
    torana = [TORANA, "build", "-t", "bench", str(context)]
    contestants: dict[str, Callable[[], None]] = {
        "torana": command(torana, store),
        "torana, no memo": command(torana, {**store, "TORANA_NO_MEMO": "1"}),
    }
    with docker(folder) as client:
        if client is not None:
            build = [*client, "build", "-q", "-t", "bench", str(context)]
            contestants["docker build"] = command(build, {"DOCKER_BUILDKIT": "1"})
        if (peer := buildah(folder)) is not None:
            build = [*peer, "bud", "--layers", "--isolation", "chroot", "-q", str(context)]
            contestants["buildah bud --layers"] = command(build, {})
        report(measure(contestants))


def measure(contestants: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Warm each up twice, then run them in turn."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(ROUNDS + 2):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            if round_ >= 2:
                times[name].append(time.perf_counter() - started)
    return times


def report(times: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in times.items()}
    docker = medians.get("docker build")
    for name, median in medians.items():
        ratio = f"   {median / docker:5.2f} x docker" if docker else ""
        low, high = min(times[name]), max(times[name])
        print(f"{name:<22}{median:8.3f} s   ({low:.3f} to {high:.3f}){ratio}")


if __name__ == "__main__":
    main()
