"""The builders that benchmarks compare: how each is started, run and stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TORANA = str(Path(sys.executable).with_name("torana"))


def command(arguments: Sequence[str], more: Mapping[str, str]) -> Callable[[], None]:
    """Give a function that runs a command, with `more` in its environment, and minds its exit."""

    def run() -> None:
        subprocess.run(
            arguments, env={**os.environ, **more}, check=True, capture_output=True, timeout=300
        )

    return run


@contextmanager
def docker(folder: Path) -> Iterator[list[str] | None]:
    """Run a private dockerd while entered; gives the client's command, None without dockerd."""
    if not shutil.which("dockerd"):
        yield None
        return
    socket = folder / "docker.sock"
    daemon = subprocess.Popen(
        ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none",
         "--data-root", folder / "docker", "--exec-root", folder / "docker-run",
         "-p", folder / "docker.pid", "-H", f"unix://{socket}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    client = ["/usr/bin/docker", "-H", f"unix://{socket}"]
    try:
        while subprocess.run([*client, "version"], capture_output=True).returncode:
            time.sleep(0.3)
        yield client
    finally:
        daemon.terminate()
        daemon.wait()


def buildah(folder: Path) -> list[str] | None:
    """Give buildah's command with a private store, None without buildah."""
    if not shutil.which("buildah"):
        return None
    return ["buildah", "--root", str(folder / "buildah"), "--runroot", str(folder / "run")]
