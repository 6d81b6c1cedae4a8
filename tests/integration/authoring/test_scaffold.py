"""`torana frontend new`: what it makes passes its own tests, is typed, and builds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.authoring.conftest import Environment


@pytest.mark.needs("root")
def test_fresh_scaffold(environment: Environment, tmp_path: Path) -> None:
    environment.run("torana", "frontend", "new", "two-words", cwd=tmp_path)
    project = tmp_path / "two-words"
    environment.install("-e", ".", cwd=project)
    assert " passed" in environment.run("pytest", "-q", cwd=project).stdout
    assert "Success" in environment.run("mypy", cwd=project).stdout
    environment.run(
        "torana", "build", "-f", "example/Twowordsfile", "-o", "type=local,dest=out", "example",
        cwd=project,
    )  # fmt: skip
    assert (project / "out/hello.txt").read_text() == "hello\n"


def test_mistakes(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "there" / "file").mkdir(parents=True)
    for name, code, text in (
        ("Bad Name", 2, "no name for a frontend: `Bad Name`"),
        ("dockerfile", 2, "torana has a frontend of that name"),
        ("there", 1, "already there: `there`"),
    ):
        done = environment.run("torana", "frontend", "new", name, cwd=tmp_path, check=False)
        assert done.returncode == code
        assert text in done.stderr
