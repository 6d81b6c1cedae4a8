"""Compare how fast daemons receive a client's folder, side by side in one run with one client.

A file of 500 MiB, and 20,000 files of 1 KiB in 100 folders, sent anew to `toranad` and to a
`buildkitd` by `buildctl`: the build is the folder and nothing else. Needs root, and `buildctl` and
`buildkitd` on PATH; without `buildctl` Torana's own client is used, without `buildkitd` there is no
ratio. Prints medians of wall-clock seconds of whole commands and CPU seconds of the daemons.
`TORANA_BENCH_ROUNDS`, `TORANA_BENCH_FILES` and `TORANA_BENCH_MIB` change the numbers.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peers import TORANA

from torana.core.llb import local

ROUNDS = int(os.environ.get("TORANA_BENCH_ROUNDS", "3"))
FILES = int(os.environ.get("TORANA_BENCH_FILES", "20000"))
MIB = int(os.environ.get("TORANA_BENCH_MIB", "500"))
BUILDKITD = (
    "--oci-worker-snapshotter=native",
    "--oci-worker-net=host",
    "--containerd-worker=false",
)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that listens at `address`."""

    address: str
    pid: int

    def cpu_s(self) -> float:
        """Give the CPU seconds that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as text:
        folder = Path(text)
        contexts = {
            f"one file of {MIB} MiB": large(folder),
            f"{FILES} files of 1 KiB": small(folder),
        }
        (folder / "local.pb").write_bytes(local("context").marshal().encode())
        toranad = [sys.executable, "-c", "from torana.cli.daemon import main; main()"]
        with daemon(folder / "t", toranad) as ours, daemon(folder / "b", buildkitd()) as stock:
            daemons = {"toranad": ours, "buildkitd": stock}
            for name, context in contexts.items():
                compare(name, context, folder / "local.pb", daemons)


def large(folder: Path) -> Path:
    context = folder / "large"
    context.mkdir()
    with (context / "file").open("wb") as file:
        for _ in range(MIB):
            file.write(os.urandom(1 << 20))
    return context


def small(folder: Path) -> Path:
    context = folder / "small"
    for number in range(FILES):
        path = context / f"folder{number // 200:03}" / f"file{number:05}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(1024))
    return context


def buildkitd() -> list[str] | None:
    found = shutil.which("buildkitd")
    return None if found is None else [found, *BUILDKITD]


@contextmanager
def daemon(folder: Path, arguments: list[str] | None) -> Iterator[Daemon | None]:
    """Run a daemon while entered; None where it is not installed."""
    if arguments is None:
        yield None
        return
    folder.mkdir()
    socket = folder / "s"
    process = subprocess.Popen(
        [*arguments, "--root", folder / "root", "--addr", f"unix://{socket}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not socket.exists():
            time.sleep(0.1)
        yield Daemon(f"unix://{socket}", process.pid)
    finally:
        process.terminate()
        process.wait()


def client(
    address: str, context: Path, definition: Path
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Give what makes a daemon receive the folder, and what makes it forget it."""
    found = shutil.which("buildctl")
    if found is None:
        build = [TORANA, "llb", "build", str(definition), "--local", f"context={context}"]
        prune = [TORANA, "prune", "--all"]
        more = {**os.environ, "BUILDKIT_HOST": address}
        return lambda: run(build, more=more), lambda: run(prune, more=more)
    buildctl = [found, "--addr", address]
    build = [*buildctl, "build", "--progress=plain", "--local", f"context={context}"]
    return lambda: run(build, stdin=definition), lambda: run([*buildctl, "prune", "--all"])


def run(
    arguments: list[str], *, stdin: Path | None = None, more: dict[str, str] | None = None
) -> None:
    with open(stdin or os.devnull, "rb") as file:
        subprocess.run(
            arguments, stdin=file, env=more, check=True, capture_output=True, timeout=300
        )


def compare(name: str, context: Path, definition: Path, daemons: dict[str, Daemon | None]) -> None:
    taken: dict[str, list[tuple[float, float]]] = {}
    for round_ in range(ROUNDS + 1):
        for who, there in daemons.items():
            if there is None:
                continue
            build, forget = client(there.address, context, definition)
            forget()
            started, used = time.perf_counter(), there.cpu_s()
            build()
            if round_:  # the first one only warms up
                measured = time.perf_counter() - started, there.cpu_s() - used
                taken.setdefault(who, []).append(measured)
    print(name)
    medians = {who: statistics.median(wall for wall, _ in all_) for who, all_ in taken.items()}
    for who, all_ in taken.items():
        cpu = statistics.median(cpu for _, cpu in all_)
        ratio = medians[who] / medians["buildkitd"] if "buildkitd" in medians else 1.0
        print(f"  {who:10} {medians[who]:6.2f} s, CPU {cpu:6.2f} s, {ratio:.2f} times")


if __name__ == "__main__":
    main()
