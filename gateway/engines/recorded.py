"""Which frontend `--record` listens to: the one that really builds, not one that hands on."""

from __future__ import annotations

from typing import Any

from torana.core.errors import UserError
from torana.gateway.engines.engine import BuildRequest
from torana.gateway.engines.picking import pick
from torana.gateway.recording.frontend import RecordedFrontend
from torana.gateway.runners.finder import GATEWAY, FrontendFinder, announce
from torana.plugins.selection import InstalledChoice

_HINT = "it runs elsewhere: `--trust-plugin NAME` runs an installed one in this process"


def recorded_frontend(request: BuildRequest, finder: FrontendFinder) -> Any:
    """Give what builds `request` and keeps the conversation in `request.record`.

    Raises:
        UserError: that frontend does not run in this process.
    """
    assert request.record is not None
    refused = UserError("only conversations of frontends in this process are recorded", hint=_HINT)
    if request.frontend == GATEWAY or request.is_isolated:
        raise refused
    picked = pick(request)
    if picked is None:
        return RecordedFrontend(request.frontend, finder(request.frontend), request.record)
    choice = finder.select(picked.syntax.image)
    if not isinstance(choice, InstalledChoice):
        raise refused
    found = choice.frontend
    if not found.is_builtin and not finder.plugins.rules.trusts(found.name, found.distribution):
        raise refused
    options = {"source": picked.syntax.image, "cmdline": picked.syntax.command_line}
    name = found.name if found.is_builtin else found.qualified_name
    made = RecordedFrontend(name, finder.chosen(choice), request.record, options)
    return _Announced(choice, made)


class _Announced:
    """A frontend that is told of by a line of progress."""

    def __init__(self, choice: InstalledChoice, frontend: RecordedFrontend) -> None:
        self._choice = choice
        self._frontend = frontend

    async def build(self, client: Any) -> Any:
        announce(self._choice, client)
        return await self._frontend.build(client)
