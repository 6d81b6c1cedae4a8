"""`CheckClient`: what `torana check` gives frontends instead of an engine.

The frontend of a file is the one that would build it. Only images are not run: that takes an
engine. Torana's own frontend stands in for its images, also where a digest pins one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from torana.core.errors import UnsupportedError
from torana.core.records import dataclass
from torana.frontends.kit.offline import OfflineClient
from torana.gateway.client.client import Result, SolveRequest
from torana.gateway.engines.engine import BuildRequest
from torana.gateway.engines.picking import pick
from torana.gateway.runners.conversation import Log
from torana.gateway.runners.finder import GATEWAY, FrontendFinder
from torana.plugins.selection import Choice, ImageChoice, InstalledChoice

DEFAULT: Final = "dockerfile.v0"


@dataclass(slots=True, kw_only=True)
class CheckClient(OfflineClient):
    """Also finds frontends, and shows what their processes write on standard error."""

    finder: FrontendFinder

    async def solve(self, request: SolveRequest) -> Result:
        """Give what can be read without building; frontends are run.

        Raises:
            UnsupportedError: an image was asked for.
        """
        if not request.frontend:
            return await OfflineClient.solve(self, request)
        inner = replace(self, options=request.frontend_opt, given=request.frontend_inputs)
        if request.frontend != GATEWAY:
            frontend = self.finder(request.frontend)
        else:
            frontend = self._chosen(self.finder.select(request.frontend_opt.get("source", "")))
        result: Result = await frontend.build(inner)
        return result

    def _chosen(self, choice: Choice) -> Any:
        if not isinstance(choice, ImageChoice):
            return self.finder.chosen(choice)
        own = self.finder.plugins.reserved_alias(choice.reference.name)
        if own is None:
            hint = "`torana build --check` runs it"
            raise UnsupportedError(
                f"images are not run to check a file: `{choice.reference.familiar()}`",
                hint=f"{choice.hint}; {hint}" if choice.hint else hint,
            )
        return self.finder.chosen(InstalledChoice(own))

    @contextmanager
    def vertex(self, name: str) -> Iterator[Log]:
        def write(stream: int, data: bytes) -> None:
            sys.stderr.buffer.write(data)
            sys.stderr.flush()

        yield write


async def lint(
    path: Path,
    frontend: str | None,
    options: Mapping[str, str],
    find_syntax: Callable[[], str],
    finder: FrontendFinder,
) -> tuple[bytes | None, bool]:
    """Ask what is wrong with a file; gives the answer, and whether base images matter to it.

    Without `frontend` it is the one that would build the file.

    Raises:
        ToranaError: there is none, it is not allowed, or it failed.
    """
    folder = path.absolute().parent
    folders = {"context": folder, "dockerfile": folder}
    given = {**options, "filename": path.name, "requestid": "frontend.lint"}
    request = BuildRequest(
        frontend=frontend or DEFAULT,
        options=given,
        local_dirs=folders,
        find_syntax=find_syntax,
    )
    picked = pick(request) if frontend is None else None
    asked: list[str] = []
    client = CheckClient(folders=folders, options=given, asked_images=asked, finder=finder)
    if picked is not None:
        result = await picked.build(client)
    else:
        client.options = {**given, "cmdline": ""}  # it has been decided who reads the file
        result = await finder(request.frontend).build(client)
    return result.metadata.get("result.json"), bool(asked)
