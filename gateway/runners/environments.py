"""Where the environments of locked frontends are, and how a frontend in one is run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torana.core.errors import NotFoundError
from torana.gateway.runners.child import ChildFrontend
from torana.gateway.runners.lockfile import LockedFrontend, read_lock
from torana.plugins.rules import DISABLED_VARIABLE, PluginRules
from torana.plugins.selection import FrontendRules, PackagedChoice

COMPLETE: Final = "complete"  # a file in an environment that is whole


def environment_of(locked: LockedFrontend, folder: Path) -> Path:
    """Give the folder of an environment, there or not, below that of all."""
    return folder / locked.id


def packaged(choice: PackagedChoice, rules: FrontendRules, plugins: PluginRules) -> ChildFrontend:
    """Give a locked frontend, to be run in its environment.

    Raises:
        NotFoundError: it is not in the lock file, or not installed.
        InvalidLockError: that file is malformed.
    """
    syntax = f"pypi:{choice.distribution}=={choice.version}"
    if rules.lock is None or rules.environments is None:
        raise NotFoundError(f"there is no project with a lock file here: `{syntax}`")
    locked = read_lock(rules.lock).find(choice.distribution, choice.version)
    environment = environment_of(locked, rules.environments)
    if not (environment / COMPLETE).exists():
        raise NotFoundError(f"not installed: `{syntax}`", hint="`torana frontend install` does it")
    return ChildFrontend(
        f"{choice.distribution}:",
        interpreter=(str(environment / "bin" / "python"), "-I"),
        is_confined=True,
        described=f"`{syntax}`",
        environment={DISABLED_VARIABLE: plugins.environment()[DISABLED_VARIABLE]},
    )
