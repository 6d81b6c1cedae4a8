"""The tutorial, line by line: files are written, commands are run, their output is looked at."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.authoring.conftest import ROOT, Environment

pytestmark = pytest.mark.needs("root")

TUTORIAL = ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(?P<info>[^\n]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MAX_LINES = 40


def _blocks() -> Iterator[tuple[str, str]]:
    for match in _BLOCK.finditer(TUTORIAL.read_text("utf-8")):
        yield match["info"], match["text"]


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Give commands with the lines that their output has, perhaps among others."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *expected = part.rstrip("\n").split("\n")
        yield command, expected


def test_tutorial(environment: Environment, tmp_path: Path) -> None:
    cwd = tmp_path
    for info, text in _blocks():
        _, _, path = info.partition("file=")
        if path:
            (cwd / path).write_text(text, "utf-8")
        if info != "console":
            continue
        for command, expected in _commands(text):
            if command.startswith("cd "):
                cwd = cwd / command.removeprefix("cd ")
            elif command.startswith("pip install -e "):
                environment.install("-e", ".", cwd=cwd)
            else:
                done = environment.run("/bin/sh", "-c", command, cwd=cwd)
                output = done.stdout + done.stderr
                for line in expected:
                    assert line in output, f"{command}: no `{line}` in:\n{output}"
    # Promised: the whole frontend is short.
    source = next(text for info, text in _blocks() if info.endswith("frontend.py"))
    assert len(source.splitlines()) <= _MAX_LINES, "the tutorial's frontend has grown"
    ast.parse(source)


def test_blocks_are_commands_or_files() -> None:
    infos = {info.partition(" ")[0] for info, _ in _blocks()}
    assert infos == {"console", "json", "python", "text"}
    assert sum(1 for info, text in _blocks() if info == "console" for _ in _commands(text)) > 10
    assert shlex.split(next(_commands("$ a 'b c'\n"))[0]) == ["a", "b c"]
