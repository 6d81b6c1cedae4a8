"""`FrontendFinder`: the frontend for a name, installed ones and `gateway.v0`, which runs images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from torana.core.oci.reference import ImageReference
from torana.gateway.client.client import Result
from torana.gateway.runners.imageref import parse_source
from torana.plugins.manager import PluginManager

GATEWAY: Final = "gateway.v0"


@dataclass(frozen=True, slots=True)
class FrontendFinder:
    """Finds frontends for an engine.

    `allowed` are the repositories whose images may be run, None for any. With `is_strict` an image
    that a plugin stands for is run all the same.
    """

    plugins: PluginManager
    allowed: Sequence[str] | None = None
    is_strict: bool = False

    def __call__(self, name: str) -> Any:
        """Give the frontend; it is loaded, but not run.

        Raises:
            NotFoundError: nobody offers it.
        """
        if name == GATEWAY:
            return GatewayFrontend(self)
        return self.plugins.frontend(name)

    def alias(self, source: ImageReference) -> str | None:
        """Give the name of the installed frontend that stands for an image."""
        if self.is_strict or source.digest is not None:
            return None  # who names a digest wants these very bytes
        return self.plugins.alias(source.name)


@dataclass(frozen=True, slots=True)
class GatewayFrontend:
    """`gateway.v0`: builds with the frontend that the option `source` names."""

    finder: FrontendFinder
    name: str = GATEWAY

    async def build(self, client: Any) -> Result:
        """Build by a plugin that stands for the image, else by the image itself."""
        source = parse_source(client.options)
        alias = self.finder.alias(source)
        if alias is not None:
            frontend = self.finder.plugins.frontend(alias)
            shown = f"[frontend] {source.familiar()} is served by torana's `{alias}`"
            with client.vertex(shown):
                pass
            result: Result = await frontend.build(client)
            return result
        from torana.gateway.runners.image import ImageFrontend

        return await ImageFrontend(self.finder.allowed).build(client)
