"""Kills and full disks at random points: the next start finds nothing corrupt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.store import trials

pytestmark = pytest.mark.needs("root", "unshare")

DOCKERFILE = """\
FROM scratch AS one
COPY a /a
WORKDIR /one
FROM one AS two
COPY b /two/
FROM scratch AS three
COPY --from=two /two /three
COPY --from=one /a /a
"""


@pytest.mark.parametrize("seed", [1, 2, 204, 207])
def test_nothing_is_corrupt_whatever_happens(tmp_path: Path, seed: int) -> None:
    context = tmp_path / "context"
    root = tmp_path / "root"
    context.mkdir()
    root.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    for name in ("a", "b"):
        (context / name).write_bytes(os.urandom(100_000))
    run = subprocess.run(
        ["unshare", "--mount", sys.executable, trials.__file__, root, context, str(seed), "25"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    for kind in ("kill", "no space", "full", "signal", "disk"):
        assert f": {kind} at" in run.stdout
