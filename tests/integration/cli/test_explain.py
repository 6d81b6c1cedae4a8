"""`torana explain` after real builds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "busybox", "crun")

DOCKERFILE = """\
FROM scratch AS base
COPY busybox /bin/sh
FROM base AS app
ARG V=1
COPY src /src
RUN echo $V > /x
"""


class Project:
    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self.context = folder / "context"
        (self.context / "src").mkdir(parents=True)
        shutil.copy("/bin/busybox", self.context / "busybox")
        self.write("src/a", "a")
        self.write("src/b", "b")
        self.write("Dockerfile", DOCKERFILE)

    def write(self, name: str, text: str) -> None:
        (self.context / name).write_text(text)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
        return subprocess.run(
            [sys.executable, "-m", "torana", *arguments],
            cwd=self.context,
            env={**kept, "TORANA_ROOT": str(self.store)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def build(self, *arguments: str) -> None:
        done = self.run("build", ".", "-q", *arguments)
        assert done.returncode == 0, done.stderr

    def explain(self, *arguments: str) -> dict[str, tuple[str, list[str]]]:
        done = self.run("explain", "--format", "json", *arguments)
        assert done.returncode == 0, done.stderr
        steps = json.loads(done.stdout)["steps"]
        return {step["name"]: (step["outcome"], step["reasons"]) for step in steps}


COPY, RUN = "[app 1/2] COPY src /src", "[app 2/2] RUN echo 1 > /x"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_reasons_of_real_builds(project: Project) -> None:
    project.build()
    first = project.explain()
    assert set(first) == {"[base 1/1] COPY busybox /bin/sh", COPY, RUN}
    assert {tuple(reasons) for _, reasons in first.values()} == {
        ("no earlier build of this folder is remembered",)
    }
    project.write("src/b", "changed")
    project.write("src/c", "new")
    project.build()
    assert project.explain() == {
        COPY: ("ran", ["`src/b` changed", "`src/c` is new"]),
        RUN: ("ran", [f"it builds on `{COPY}`, which ran"]),
    }
    project.build("--build-arg", "V=2")
    changed = {
        "[app 2/2] RUN echo 2 > /x": ("ran", ["environment variable `V` changed: `1` -> `2`"])
    }
    assert project.explain() == changed
    # A stage, or part of a step's name.
    assert set(project.explain("app")) == {COPY, *changed}
    assert project.explain("copy src") == {
        COPY: ("cached", ["the step and the files it looks at are the same as before"])
    }
    project.build("--no-cache")
    assert project.explain()[RUN] == ("ran", ["the cache was not to be used"])


def test_a_failed_build_is_explained(project: Project) -> None:
    project.build()
    project.write("Dockerfile", DOCKERFILE.replace("echo", "false && echo"))
    assert project.run("build", ".").returncode == 1
    outcome, reasons = project.explain("false")["[app 2/2] RUN false && echo 1 > /x"]
    assert outcome == "failed"
    assert "exit code: 1" in reasons[0]


def test_mistakes(project: Project) -> None:
    nothing = project.run("explain")
    assert nothing.returncode == 1
    assert "no build of `.` is remembered" in nothing.stderr
    project.build()
    missing = project.run("explain", "nope")
    assert missing.returncode == 1
    assert COPY in missing.stderr
    text = project.run("explain")
    assert text.returncode == 0
    assert text.stdout.startswith("build ")
    assert "compared with nothing" in text.stdout
