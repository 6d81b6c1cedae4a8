"""Roots that have nothing in common, and what was executed in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCKERFILE = """\
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base AS build
COPY src /src
RUN cat /src/text /proc/sys/kernel/random/uuid > /built
RUN cp /built /more
FROM base
COPY --from=build /built /app/built
RUN cat /app/built > /app/final
"""
STEPS = 7  # COPY and RUN


@dataclass(frozen=True)
class Built:
    """What a build said."""

    code: int
    output: str
    metadata: dict[str, Any]

    @property
    def digest(self) -> str:
        return str(self.metadata.get("containerimage.digest", ""))

    @property
    def steps(self) -> dict[str, str]:
        """Give the last word on each COPY and RUN: `CACHED` or `DONE`."""
        names = {
            number: name
            for number, name in re.findall(r"^#(\d+) \[(.*)$", self.output, re.MULTILINE)
            if "COPY" in name or "RUN" in name
        }
        words = re.findall(r"^#(\d+) (CACHED|DONE|ERROR)", self.output, re.MULTILINE)
        return {names[number]: word for number, word in words if number in names}

    @property
    def executed(self) -> list[str]:
        return [name for name, word in self.steps.items() if word != "CACHED"]


class Machine:
    """A store of its own; builds of one context run here, in processes of their own."""

    def __init__(self, folder: Path, context: Path, address: str = "") -> None:
        self.folder = folder
        self._context = context
        self._address = address

    def build(self, *arguments: str, is_good: bool = True) -> Built:
        metadata = self.folder / "metadata.json"
        metadata.unlink(missing_ok=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
        engine = ["--addr", self._address] if self._address else []
        done = subprocess.run(
            [sys.executable, "-m", "torana", "build", str(self._context), "--progress", "plain",
             "--metadata-file", str(metadata), *engine, *arguments],
            env={**kept, "TORANA_ROOT": str(self.folder / "root"), "TORANA_GC": "off"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )  # fmt: skip
        answer = json.loads(metadata.read_text()) if metadata.exists() else {}
        built = Built(done.returncode, done.stderr, answer)
        assert "Traceback" not in done.stderr, done.stderr
        assert (built.code == 0) == is_good, done.stderr
        return built


def make_context(folder: Path, busybox: Path) -> Path:
    """Make the context of `DOCKERFILE`."""
    (folder / "src").mkdir(parents=True)
    (folder / "src/text").write_text("one\n")
    (folder / "busybox").write_bytes(busybox.read_bytes())
    (folder / "busybox").chmod(0o755)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder
