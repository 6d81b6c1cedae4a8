"""`LazyGroup`: a group of commands that imports the one that is asked for, and no other."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click


class Lazy(NamedTuple):
    """Where a command is, and its line in help; without one help leaves it out."""

    module: str
    attribute: str
    summary: str = ""


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
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = [(name, lazy.summary) for name, lazy in self.lazy.items() if lazy.summary]
        with formatter.section("Commands"):
            formatter.write_dl(listed)
