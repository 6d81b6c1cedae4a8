"""The same build many times at once: each step runs once, and all succeed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.integration.store.conftest import Project

pytestmark = pytest.mark.needs("root", "busybox")

COUNT = 20
JOBS = """
import asyncio, sys
from pathlib import Path
from torana.gateway.engines.embedded import EmbeddedEngine
from torana.gateway.engines.engine import BuildRequest, ExportRequest

class Nowhere:
    def emit(self, event): pass

async def main():
    context = Path.cwd()
    request = BuildRequest(
        frontend="dockerfile",
        local_dirs={"context": context, "dockerfile": context},
        exports=[ExportRequest(type="oci", dest="/dev/null")],
    )
    async with EmbeddedEngine.open(Path(sys.argv[1])) as engine:
        results = await asyncio.gather(*(engine.build(request, Nowhere()) for _ in range(%d)))
        assert engine._worker.refs.lease.held() == set(), "handles were not released"
    print(*{result.response["containerimage.digest"] for result in results}, sep="\\n")

asyncio.run(main())
"""


def test_processes_started_together_run_each_step_once(project: Project) -> None:
    builds = [
        project.start("build", "--progress=plain", "-o", "type=oci,dest=/dev/null", ".")
        for _ in range(COUNT)
    ]
    outputs = [build.communicate(timeout=120) for build in builds]
    for build, (_, stderr) in zip(builds, outputs, strict=True):
        assert build.returncode == 0, stderr
    assert project.ran() == ["both", "one", "two"]
    assert project.check() == "the store is consistent\n"


def test_jobs_of_one_process_started_together_run_each_step_once(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-c", JOBS % COUNT, str(project.store)],
        cwd=project.context,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 1
    assert project.ran() == ["both", "one", "two"]
    assert project.check() == "the store is consistent\n"
