"""Flags of the whole program, and what is shown of bugs."""

from __future__ import annotations

from typing import NoReturn

import click
import pytest

from torana.cli import app, failures
from torana.cli.commands import build, frontend_listing


@pytest.fixture(autouse=True)
def bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands fail as no command should; those that have an argument take one."""

    def fail(**values: object) -> NoReturn:
        raise ZeroDivisionError("a bug")

    for command in (build.build, frontend_listing.list_, frontend_listing.show):
        monkeypatch.setattr(command, "callback", fail)


@pytest.mark.parametrize(
    "line",
    [
        "--debug build",
        "build --debug",
        "build --debug .",
        "build . --debug",
        "build --build-arg A=b --debug .",
        "--addr unix:///x --debug build",
        "--debug --addr unix:///x build",
        "frontend --debug list",
        "frontend list --debug",
        "--debug frontend list --json",
    ],
)
def test_debug_shows_the_traceback(line: str) -> None:
    with pytest.raises(ZeroDivisionError):
        app.run(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "build",
        "build .",
        "build --build-arg --debug",  # the value of an option
        "frontend show -- --debug",  # an argument
        "frontend list",
    ],
)
def test_without_it_there_is_no_traceback(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(line.split()) == app.FAILED
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    assert "ERROR: internal error at test_app.py:" in captured.err


def test_one_debug_says_nothing_about_the_next_run() -> None:
    with pytest.raises(ZeroDivisionError):
        app.run(["build", "--debug"])
    assert app.run(["build"]) == app.FAILED


def test_wrong_usage_has_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["build", "--debug", "--no-such-option"]) == app.USAGE
    assert "No such option" in capsys.readouterr().err


def test_every_command_takes_it() -> None:
    root = click.Context(app.torana)

    def check(command: click.Command, path: str) -> None:
        names = [name for each in command.params for name in each.opts]
        assert names.count("--debug") == 1, path
        if isinstance(command, click.Group):
            for name in command.list_commands(root):
                inner = command.get_command(root, name)
                assert inner is not None
                check(inner, f"{path} {name}")

    check(app.torana, "torana")
    assert "--debug" in failures.describe_bug(ZeroDivisionError())
