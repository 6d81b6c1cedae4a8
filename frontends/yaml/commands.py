"""The argument vector of a run step."""

from __future__ import annotations

import shlex

from torana.frontends.yaml import model as m
from torana.frontends.yaml.mounts import Mounts


def command(step: m.Run, shell: tuple[str, ...]) -> tuple[str, ...]:
    """Give the argument vector of a run step: the shell with its text, or with a file."""
    shell = step.shell or shell
    if not step.script:
        return (*shell, step.text)
    flags = [each for each in (_without_c(flag) for flag in shell[1:]) if each]
    return (shell[0], *flags, Mounts.script_path(step.script), *shlex.split(step.text))


def _without_c(flag: str) -> str:
    """Take `-c` out of a shell's flags: `-ec` is `-e`."""
    if not flag.startswith("-") or flag.startswith("--"):
        return flag
    rest = flag.replace("c", "")
    return "" if rest == "-" else rest
