"""A context with a Dockerfile whose steps say how often they ran."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUSYBOX = Path("/bin/busybox")

# Each RUN adds a line to a file in a cache mount; the last shows them, uncached, on demand.
DOCKERFILE = """\
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base AS one
RUN --mount=type=cache,target=/ran echo one >> /ran/log; sleep 0.2; echo one > /one
FROM base AS two
RUN --mount=type=cache,target=/ran echo two >> /ran/log; echo two > /two
FROM one AS both
COPY --from=two /two /two
RUN --mount=type=cache,target=/ran echo both >> /ran/log; cat /one /two > /both
FROM base AS show
ARG NUMBER
RUN --mount=type=cache,target=/ran echo $NUMBER; cp /ran/log /log
FROM scratch AS log
COPY --from=show /log /log
FROM both
"""


class Project:
    """A context and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = folder / "context"
        self.context.mkdir()
        self.store = folder / "store"
        (self.context / "busybox").write_bytes(BUSYBOX.read_bytes())
        (self.context / "busybox").chmod(0o755)
        (self.context / "Dockerfile").write_text(DOCKERFILE)

    def add(self, line: str) -> None:
        """Add a line to the Dockerfile."""
        path = self.context / "Dockerfile"
        path.write_text(path.read_text() + line + "\n")

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
        return {**kept, "TORANA_ROOT": str(self.store), "TORANA_NO_MEMO": "1", **more}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "torana", *arguments],
            cwd=self.context,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **more)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def ran(self) -> list[str]:
        """Give what RUN steps have noted so far."""
        out = self.folder / "log"
        number = f"--build-arg=NUMBER={os.urandom(4).hex()}"
        shown = self.run("build", number, "--target=log", "-o", f"type=local,dest={out}", ".")
        assert shown.returncode == 0, shown.stderr
        return sorted((out / "log").read_text().split())

    def check(self) -> str:
        checked = self.run("debug", "check-store", "--blobs")
        return checked.stdout + checked.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
