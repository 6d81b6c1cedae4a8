"""`InProcessFrontend`: a frontend in this process, a built-in one or one that is trusted."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from torana.core.errors import NotFoundError, ToranaError
from torana.core.records import dataclass
from torana.gateway.client.client import Result
from torana.gateway.runners.crashes import crash
from torana.gateway.runners.printing import noting
from torana.plugins.installed import PluginError
from torana.plugins.loading import place_of
from torana.plugins.selection import LocalChoice

_ENGINE = "torana.gateway.bridge."
_TRACEBACK = "`torana --debug ...` shows its traceback"


@dataclass(frozen=True, slots=True)
class InProcessFrontend:
    """Runs `frontend`; what it lets through that is no error of ours is told as its crash.

    What it prints goes to standard error: standard output may be a file that it would spoil.
    """

    frontend: Any
    described: str

    @property
    def name(self) -> str:
        return str(getattr(self.frontend, "name", self.described))

    async def build(self, client: Any) -> Result:
        """Build.

        Raises:
            ToranaError: what the frontend raised.
            FrontendCrashedError: it raised something else, or gave no result.
        """
        try:
            with noting(is_process=False):
                result = await self.frontend.build(client)
        except ToranaError:
            raise
        except (Exception, SystemExit) as err:
            if _is_of_engine(err):
                raise
            raise crash(self.described, err, hint=_TRACEBACK) from err
        return checked(result, self.described)


def _is_of_engine(error: BaseException) -> bool:
    """Say whether the engine failed while it did what a frontend had asked for."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__", "").startswith(_ENGINE) for frame in frames)


def checked(result: object, described: str) -> Result:
    """Give what a frontend gave.

    Raises:
        PluginError: it is no result.
    """
    if not isinstance(result, Result):
        raise PluginError(
            f"frontend {described} gave no result: `{type(result).__name__}`",
            hint="`build` has to return what `client.solve` gives, or a `Result`",
        )
    return result


def load_local(choice: LocalChoice) -> Any:
    """Import a frontend from a file of the project, and make its object.

    Raises:
        NotFoundError: there is no such file, or no such object in it.
        PluginError: it cannot be imported.
    """
    path = choice.path
    if not path.is_file():
        raise NotFoundError(f"no such file: `{path}`", hint="it is relative to the context")
    found: Any = _module(path)
    for part in choice.attribute.split("."):
        if not hasattr(found, part):
            raise NotFoundError(f"no `{choice.attribute}` in `{path}`")
        found = getattr(found, part)
    try:
        return found() if isinstance(found, type) or not hasattr(found, "build") else found
    except Exception as err:
        raise _failed(path, err) from err


def _module(path: Path) -> Any:
    name = f"torana_local_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as dataclasses want it
    sys.path.insert(0, str(path.parent))  # what lies beside it is its own
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as err:
        raise _failed(path, err) from err
    finally:
        sys.path.remove(str(path.parent))
    return module


def _failed(path: Path, error: BaseException) -> PluginError:
    return PluginError(
        f"frontend `{path.name}` failed to load{place_of(error)}: {type(error).__name__}: {error}"
    )
