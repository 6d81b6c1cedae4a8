"""A Python frontend as an image, run by stock BuildKit through `# syntax=`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.conftest import Docker

pytestmark = pytest.mark.needs("root", "busybox", "dockerd")


def torana(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
    return subprocess.run(
        [sys.executable, "-m", "torana", *arguments],
        cwd=folder,
        env={**kept, "TORANA_ROOT": str(folder / "store")},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_stock_buildkit_runs_our_frontend(tmp_path: Path, docker: Docker) -> None:
    made = torana(
        tmp_path, "frontend", "publish-image", "dockerfile",
        "-t", "frontends.invalid/dockerfile-py:1", "--addr", docker.address,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy("/bin/busybox", context / "busybox")
    (context / "Dockerfile").write_text(
        "# syntax=frontends.invalid/dockerfile-py:1\n"
        "FROM scratch\nCOPY busybox /bin/sh\n"
        "RUN --network=none <<end\necho from a heredoc > /made\nend\n"
        'CMD ["/bin/sh", "-c", "read -r text < /made; echo $text"]\n'
    )
    built = subprocess.run(
        ["/usr/bin/docker", "-H", f"unix://{docker.socket}", "build", "--progress=plain",
         "-t", "by-image", "."],
        cwd=context, env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert docker.run("run", "--rm", "--network=none", "by-image") == "from a heredoc\n"
    # An error of the frontend crosses with its line.
    (context / "Dockerfile").write_text(
        "# syntax=frontends.invalid/dockerfile-py:1\nFROM scratch\nRUNN x\n"
    )
    wrong = subprocess.run(
        ["/usr/bin/docker", "-H", f"unix://{docker.socket}", "build", "--progress=plain", "."],
        cwd=context, env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert wrong.returncode != 0
    assert "unknown instruction: RUNN" in wrong.stderr


def test_mistakes(tmp_path: Path) -> None:
    nowhere = torana(tmp_path, "frontend", "publish-image", "dockerfile")
    assert nowhere.returncode == 2
    assert "the image goes nowhere" in nowhere.stderr
    unknown = torana(tmp_path, "frontend", "publish-image", "nope", "-t", "x")
    assert unknown.returncode == 1
    assert "installed: `dockerfile`" in unknown.stderr
