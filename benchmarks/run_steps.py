"""Compare what a `RUN` costs with other builders, side by side in one run.

Builds thirty steps that nobody has run before, each `RUN true` without a network, and one such
step; the difference over 29 is the price of a step, start and end of the builder left out. Needs
root, busybox, dockerd (Debian's docker.io) and buildah; what is missing is left out. With `--only`
just Torana, with each of its runtimes.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from peers import TORANA, buildah, command, docker

ROUNDS = 5
STEPS = 30
BASE = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n"
FLAGS = ("--network=none", "-q")
RUNTIMES = ("crun", "runc", "bubblewrap")

_numbers = itertools.count()


class Contestant:
    """A builder: `line` is its command, less the context."""

    def __init__(self, folder: Path, name: str, line: Sequence[str], **env: str) -> None:
        self.name = name
        self.context = folder / f"context-{next(_numbers)}"
        self.context.mkdir()
        shutil.copy("/bin/busybox", self.context)
        self.run: Callable[[], None] = command([*line, str(self.context)], env)
        self.times: dict[int, list[float]] = {1: [], STEPS: []}

    def measure(self, count: int, *, counts: bool) -> None:
        """Build `count` steps that are new."""
        steps = (f"RUN true {next(_numbers)}\n" for _ in range(count))
        (self.context / "Dockerfile").write_text(BASE + "".join(steps))
        started = time.perf_counter()
        self.run()
        if counts:
            self.times[count].append(time.perf_counter() - started)

    def report(self) -> None:
        one, many = (statistics.median(self.times[count]) for count in (1, STEPS))
        low, high = min(self.times[STEPS]), max(self.times[STEPS])
        price = (many - one) / (STEPS - 1) * 1000
        print(
            f"{self.name:<22} {STEPS} steps {many:6.2f} s ({low:.2f} to {high:.2f})   "
            f"one {one:5.2f} s   {price:6.1f} ms a step"
        )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as text:
        folder = Path(text)
        with docker(folder) as client:
            contestants = list(_contestants(folder, client, is_only="--only" in sys.argv))
            for round_ in range(ROUNDS + 1):
                for contestant in contestants:
                    for count in (1, STEPS):
                        contestant.measure(count, counts=round_ > 0)
        for contestant in contestants:
            contestant.report()


def _contestants(folder: Path, client: list[str] | None, *, is_only: bool) -> list[Contestant]:
    found = []
    for runtime in RUNTIMES:
        if shutil.which({"bubblewrap": "bwrap"}.get(runtime, runtime)):
            env = {"TORANA_ROOT": str(folder / f"store-{runtime}"), "TORANA_RUNTIME": runtime}
            found.append(Contestant(folder, f"torana, {runtime}", [TORANA, "build", *FLAGS], **env))
    if is_only:
        return found
    if client is not None:
        line = [*client, "build", *FLAGS]
        found.append(Contestant(folder, "docker build", line, DOCKER_BUILDKIT="1"))
    peer = buildah(folder)
    if peer is not None:
        # In a mount namespace of its own: what it mounts goes with it.
        peer = ["unshare", "-m", *peer, "bud", "--layers", "-q"]
        for name, flags in (
            ("oci", ("--isolation=oci", "--runtime=runc", "--network=none")),
            ("chroot", ("--isolation=chroot", "--network=host")),  # it has no other network
        ):
            found.append(Contestant(folder, f"buildah bud, {name}", [*peer, *flags]))
    return found


if __name__ == "__main__":
    main()
