"""Discovery of plugins and frontends: entry points, read only when something asks for them.

Built-in plugins are registered by name without looking at installed distributions, so that a plain
Dockerfile build never pays for a scan.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pluggy

from torana.core.errors import NotFoundError, UserError
from torana.plugins import hookspecs

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from torana.core.ops.runtime import Runtime
    from torana.core.ops.source import Source
    from torana.plugins.exporter import Exporter

_FRONTENDS: Final = "torana.frontends"
_PLUGINS: Final = "torana.plugins"
_BUILTIN_PLUGINS: Final = (
    "torana.plugins.exporters",
    "torana.plugins.runtimes",
    "torana.plugins.sources",
)
_BUILTIN_FRONTENDS: Final = {
    "dockerfile": "torana.frontends.dockerfile:DockerfileFrontend",
}
_BUILTIN_ALIASES: Final = {
    # Images that a built-in frontend stands for, whatever their tag.
    "docker.io/docker/dockerfile": "dockerfile",
    "docker.io/docker/dockerfile-upstream": "dockerfile",
}
_VERSIONED: Final = re.compile(r"\.v\d+$")


class PluginError(UserError):
    """A plugin cannot be loaded; the message names it and its distribution."""

    code = "PLUGIN_FAILED"


@dataclass(frozen=True, slots=True)
class FoundFrontend:
    """A frontend that could be loaded; nothing is imported yet."""

    name: str
    target: str  # module:attribute
    distribution: str
    version: str


class PluginManager:
    """Finds frontends, exporters, sources and runtimes."""

    @cached_property
    def hooks(self) -> pluggy.PluginManager:
        """Built-in plugins, and those of installed distributions."""
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        for module in _BUILTIN_PLUGINS:
            manager.register(importlib.import_module(module), name=module)
        return manager

    @cached_property
    def _external_loaded(self) -> bool:
        for entry in _entry_points(_PLUGINS):
            self.hooks.register(_load(entry), name=entry.name)
        return True

    def frontend(self, name: str) -> Any:
        """Make the frontend `name`; `dockerfile.v0` and the like mean `dockerfile`.

        Raises:
            NotFoundError: nobody offers it.
            PluginError: it cannot be imported.
        """
        short = _VERSIONED.sub("", name)
        target = _BUILTIN_FRONTENDS.get(short)
        if target is not None:
            module, _, attribute = target.partition(":")
            return getattr(importlib.import_module(module), attribute)()
        entries = [entry for entry in _entry_points(_FRONTENDS) if entry.name == short]
        if not entries:
            known = ", ".join(f"`{found.name}`" for found in self.frontends())
            raise NotFoundError(f"no such frontend: `{name}`", hint=f"installed: {known}")
        if len(entries) > 1:
            names = ", ".join(_distribution(entry) for entry in entries)
            raise PluginError(
                f"frontend `{short}` is offered by several distributions: {names}",
                hint="uninstall all but one",
            )
        return _load(entries[0])()

    def alias(self, image: str) -> str | None:
        """Give the name of the frontend that stands for an image; `image` is a full repository."""
        return _BUILTIN_ALIASES.get(image)

    def frontends(self) -> Iterator[FoundFrontend]:
        """Give all frontends that are installed, built-in ones first."""
        from torana import __version__

        for name, target in _BUILTIN_FRONTENDS.items():
            yield FoundFrontend(name, target, "torana", __version__)
        for entry in _entry_points(_FRONTENDS):
            if entry.name not in _BUILTIN_FRONTENDS:
                dist = entry.dist
                version = "" if dist is None else dist.version
                yield FoundFrontend(entry.name, entry.value, _distribution(entry), version)

    def exporter(self, type: str) -> Exporter:
        """Give the exporter of `type`.

        Raises:
            NotFoundError: there is none.
        """
        found: Exporter | None = self.hooks.hook.torana_find_exporter(type=type)
        if found is None and self._external_loaded:
            found = self.hooks.hook.torana_find_exporter(type=type)
        if found is None:
            types = sorted({t for part in self.hooks.hook.torana_list_exporters() for t in part})
            known = ", ".join(f"`{t}`" for t in types)
            raise NotFoundError(f'exporter "{type}" could not be found', hint=f"known: {known}")
        return found

    def source(self, scheme: str) -> Source | None:
        """Give the source for a scheme, None if no plugin serves it."""
        found: Source | None = self.hooks.hook.torana_find_source(scheme=scheme)
        if found is None and self._external_loaded:
            found = self.hooks.hook.torana_find_source(scheme=scheme)
        return found

    def runtimes(self) -> list[Runtime]:
        """Give all runtimes in order of preference."""
        return [r for part in self.hooks.hook.torana_list_runtimes() for r in part]


def _entry_points(group: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return sorted(entry_points(group=group), key=lambda entry: entry.name)


def _distribution(entry: EntryPoint) -> str:
    return "?" if entry.dist is None else entry.dist.name


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as err:  # a broken plugin must be named, whatever it raises
        raise PluginError(
            f"plugin `{entry.name}` of distribution `{_distribution(entry)}` failed to load: {err}",
            hint="reinstall or uninstall that distribution",
        ) from err
