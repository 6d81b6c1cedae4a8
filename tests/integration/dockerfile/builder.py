"""`Builder`: real builds of Dockerfiles on the embedded engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
BASE = """\
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""


class Builder:
    """Builds a context folder into the store of the module."""

    def __init__(self, store: Path, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.context = folder / "context"
        self.context.mkdir()
        target = self.context / "busybox"
        shutil.copyfile(BUSYBOX, target)
        target.chmod(0o755)
        os.utime(target, (1_700_000_000, 1_700_000_000))  # the base is one step for all tests

    def write(self, name: str, text: str | bytes, mode: int = 0o644) -> Path:
        """Write a file of the context."""
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def run(
        self, dockerfile: str, *arguments: str, base: str = BASE, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `torana build`; what `base` says comes before the Dockerfile's text."""
        self.write("Dockerfile", base + dockerfile)
        return self.command("build", "--progress=plain", *arguments, ".", **environment)

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Torana in the context folder."""
        process = self.start(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command of Torana in the context folder."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
        return subprocess.Popen(
            [sys.executable, "-m", "torana", *arguments],
            cwd=self.context,
            env={**kept, "TORANA_ROOT": str(self.store), "TORANA_NO_MEMO": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def build(self, dockerfile: str, *arguments: str, base: str = BASE, **environment: str) -> str:
        """Build and give the log.

        The steps test what they see: a wrong tree fails them, and so the build.
        """
        result = self.run(dockerfile, *arguments, base=base, **environment)
        assert result.returncode == 0, result.stderr
        return result.stderr

    def files(self, dockerfile: str, *arguments: str, base: str = BASE) -> Path:
        """Build and give the folder of the target's files."""
        target = self.folder / "out"
        shutil.rmtree(target, ignore_errors=True)
        self.build(dockerfile, "-o", str(target), *arguments, base=base)
        return target


def is_cached(log: str, part: str) -> bool:
    """Say whether the one step whose name holds `part` was taken from the cache."""
    lines = [line.partition(" ") for line in log.splitlines() if line.startswith("#")]
    [number] = {number for number, _, text in lines if part in text and text.startswith("[")}
    return any(text == "CACHED" for other, _, text in lines if other == number)
