"""`FrontendFinder`: the frontend for a name, installed ones and `gateway.v0`, which selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Final

from torana.core.errors import ToranaError
from torana.core.records import dataclass
from torana.gateway.client.client import Result
from torana.gateway.runners.imageref import parse_source
from torana.gateway.runners.printing import noting
from torana.plugins.manager import PluginManager
from torana.plugins.selection import (
    Choice,
    FrontendRules,
    ImageChoice,
    InstalledChoice,
    LocalChoice,
    PackagedChoice,
    select,
)

if TYPE_CHECKING:
    from torana.gateway.runners.workers import FrontendWorkers
    from torana.plugins.installed import FoundFrontend

GATEWAY: Final = "gateway.v0"


@dataclass(frozen=True, slots=True)
class FrontendFinder:
    """Finds frontends for an engine, and says how they are run.

    `allowed` are the repositories whose images may be run, None for any; `rules` are what the user
    and the project allow besides. Frontends of others run in a confined process unless they are
    trusted; with `is_isolated` all do.
    """

    plugins: PluginManager
    allowed: Sequence[str] | None = None
    rules: FrontendRules = field(default_factory=FrontendRules)
    is_isolated: bool = False
    workers: FrontendWorkers | None = None  # of the engine's session
    foreign: list[str] = field(default_factory=list)  # those used that are no part of Torana

    def __call__(self, name: str) -> Any:
        """Give the frontend; it is found, but perhaps not loaded.

        Raises:
            NotFoundError: nobody offers it.
        """
        if name == GATEWAY:
            return GatewayFrontend(self)
        found = self.plugins.find_frontend(name)
        self.rules.check(found.name, found.qualified_name)
        return self.runner(found)

    def select(self, syntax: str) -> Choice:
        """Give what serves the first word of a syntax line.

        Raises:
            UserError: nothing does, or it is not allowed.
        """
        return select(syntax, self.rules, self.plugins.frontends, self.plugins.reserved_alias)

    def chosen(self, choice: InstalledChoice | LocalChoice | PackagedChoice) -> Any:
        """Give a frontend that is no image."""
        if not isinstance(choice, InstalledChoice):
            self.foreign.append(str(choice))
        match choice:
            case InstalledChoice():
                return self.runner(choice.frontend)
            case LocalChoice():
                if self.is_isolated:
                    return self._confined(f"{choice.path}:{choice.attribute}", "")
                from torana.gateway.runners.inprocess import InProcessFrontend, load_local

                with noting(is_process=False):
                    frontend = load_local(choice)
                return InProcessFrontend(frontend, f"`{choice.path.name}`")
            case PackagedChoice():
                from torana.gateway.runners.environments import packaged

                return replace(
                    packaged(choice, self.rules, self.plugins.rules), workers=self.workers
                )

    def runner(self, found: FoundFrontend) -> Any:
        """Give an installed frontend with the way it is run."""
        if not found.is_builtin:
            self.foreign.append(str(found))
        rules = self.plugins.rules
        is_trusted = found.is_builtin or rules.trusts(found.name, found.distribution)
        if self.is_isolated or not is_trusted:
            self.plugins.check(found)
            return self._confined(found.qualified_name, "" if found.is_builtin else str(found))
        from torana.gateway.runners.inprocess import InProcessFrontend

        with noting(is_process=False):
            frontend = self.plugins.load(found)
        return InProcessFrontend(frontend, str(found))

    def _confined(self, name: str, described: str) -> Any:
        from torana.gateway.runners.child import ChildFrontend

        return ChildFrontend(
            name,
            is_confined=True,
            described=described,
            environment=self.plugins.rules.environment(),
            workers=self.workers,
        )


@dataclass(frozen=True, slots=True)
class GatewayFrontend:
    """`gateway.v0`: builds with the frontend that the option `source` names."""

    finder: FrontendFinder
    name: str = GATEWAY

    async def build(self, client: Any) -> Result:
        """Build by an installed frontend of that name, or that stands for it, else by the image."""
        source = client.options.get("source", "")
        if not source or "gateway-devel" in client.options:
            parse_source(client.options)
        choice = self.finder.select(source)
        if not isinstance(choice, ImageChoice):
            if isinstance(choice, InstalledChoice):
                announce(choice, client)
            return checked(await self.finder.chosen(choice).build(client))
        from torana.gateway.runners.image import ImageFrontend

        try:
            return await ImageFrontend(self.finder.allowed).build(client)
        except ToranaError as err:
            err.hint = "; ".join(filter(None, (choice.hint, err.hint))) or None
            raise


def announce(choice: InstalledChoice, client: Any) -> None:
    """Say in one line of progress that an installed frontend stands for an image."""
    if choice.alias is not None:
        shown = f"{choice.alias.familiar()} is served by torana's `{choice.frontend.name}`"
        if not choice.frontend.is_builtin:
            shown = f"{choice.alias.familiar()} is served by frontend {choice.frontend}"
        with client.vertex(f"[frontend] {shown}"):
            pass


def checked(result: Any) -> Result:
    assert isinstance(result, Result)
    return result
