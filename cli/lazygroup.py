"""`LazyGroup`: a group of commands that imports the one that is asked for, and no other.

Options of the whole program, such as `--debug`, may stand behind any of its commands, too.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click


class Lazy(NamedTuple):
    """Where a command is, and its line in help; without one help leaves it out."""

    module: str
    attribute: str
    summary: str = ""


class OptionEverywhere(click.Option):
    """An option that commands below a `LazyGroup` take, too, without a line in their help.

    Its value goes to its callback.
    """

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return None if ctx.parent else super().get_help_record(ctx)


class LazyGroup(click.Group):
    """Lists `lazy` in its order; help needs none of them."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = self.lazy.get(cmd_name)
        if lazy is None:
            return None
        command = getattr(importlib.import_module(lazy.module), lazy.attribute)
        assert isinstance(command, click.Command)
        return _with_options(
            command, [each for each in self.params if isinstance(each, OptionEverywhere)]
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = [(name, lazy.summary) for name, lazy in self.lazy.items() if lazy.summary]
        with formatter.section("Commands"):
            formatter.write_dl(listed)


def _with_options(command: click.Command, options: Sequence[OptionEverywhere]) -> click.Command:
    """Give a command, and those below it that are at hand, options that they do not have yet."""
    command.params += [option for option in options if option not in command.params]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _with_options(below, options)
    return command
