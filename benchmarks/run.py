"""Compare an unchanged build of twelve steps with other builders, side by side in one run.

Needs root, busybox, dockerd (Debian's docker.io) and buildah; what is missing is left out. Prints
medians of wall-clock seconds of whole processes, and their ratio to docker's.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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
    torana = [str(Path(sys.executable).with_name("torana")), "build", "-t", "bench", str(context)]
    contestants: dict[str, Callable[[], None]] = {
        "torana": command(torana, store),
        "torana, no memo": command(torana, {**store, "TORANA_NO_MEMO": "1"}),
    }
    daemon = None
    if shutil.which("dockerd"):
        daemon, docker = start_docker(folder)
        build = [*docker, "build", "-q", "-t", "bench", str(context)]
        contestants["docker build"] = command(build, {"DOCKER_BUILDKIT": "1"})
    if shutil.which("buildah"):
        roots = ["--root", str(folder / "buildah"), "--runroot", str(folder / "run")]
        build = ["buildah", *roots, "bud", "--layers", "--isolation", "chroot", "-q", str(context)]
        contestants["buildah bud --layers"] = command(build, {})
    try:
        report(measure(contestants))
    finally:
        if daemon is not None:
            daemon.terminate()
            daemon.wait()


def command(arguments: Sequence[str], more: dict[str, str]) -> Callable[[], None]:
    def run() -> None:
        subprocess.run(
            arguments, env={**os.environ, **more}, check=True, capture_output=True, timeout=300
        )

    return run


def start_docker(folder: Path) -> tuple[subprocess.Popen[bytes], list[str]]:
    socket = folder / "docker.sock"
    daemon = subprocess.Popen(
        ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none",
         "--data-root", folder / "docker", "--exec-root", folder / "docker-run",
         "-p", folder / "docker.pid", "-H", f"unix://{socket}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    docker = ["/usr/bin/docker", "-H", f"unix://{socket}"]
    while subprocess.run([*docker, "version"], capture_output=True).returncode:
        time.sleep(0.3)
    return daemon, docker


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
