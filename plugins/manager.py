"""`PluginManager`: finds frontends and the plugins of all hooks, and loads what is asked for.

Built-in plugins are known by name without looking at installed distributions, so that a plain
Dockerfile build never pays for a scan.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from torana.core.errors import NotFoundError, ToranaError, UsageError
from torana.plugins.rules import PluginRules

if TYPE_CHECKING:
    import pluggy

    from torana.core.llb.policy import Policy
    from torana.core.ops.runtime import Runtime
    from torana.core.ops.source import Source
    from torana.core.snapshots.choose import MakeSnapshotter
    from torana.plugins.cachebackend import CacheBackend
    from torana.plugins.displays import OpenDisplay
    from torana.plugins.exporter import Exporter
    from torana.plugins.installed import Distribution, FoundFrontend, Installed
    from torana.plugins.secretreader import SecretReader

T = TypeVar("T")

_BUILTIN_PLUGINS: Final = (
    "torana.plugins.caches",
    "torana.plugins.exporters",
    "torana.plugins.policies",
    "torana.plugins.runtimes",
    "torana.plugins.secretreaders",
    "torana.plugins.snapshotters",
    "torana.plugins.sources",
)
_BUILTIN_FRONTENDS: Final = {
    "dockerfile": "torana.frontends.dockerfile:DockerfileFrontend",
}
_BUILTIN_ALIASES: Final = {
    # Images that only a built-in frontend can stand for, whatever their tag: no scan is needed.
    "docker.io/docker/dockerfile": "dockerfile",
    "docker.io/docker/dockerfile-upstream": "dockerfile",
}
_VERSIONED: Final = re.compile(r"\.v\d+$")


class PluginManager:
    """Finds frontends, exporters, sources, runtimes and the other things that plugins bring."""

    def __init__(self, rules: PluginRules | None = None) -> None:
        """Use `rules`, or those of the environment; nothing is looked for yet."""
        self.rules = PluginRules.from_environment() if rules is None else rules
        self.problems: list[str] = []  # plugins that were skipped, and why

    # Frontends

    def frontend(self, name: str) -> Any:
        """Make the frontend `name` (`DISTRIBUTION:NAME` picks one of several).

        `dockerfile.v0` and the like are the names that BuildKit's clients use: they always mean the
        built-in one.

        Raises:
            NotFoundError: nobody offers it.
            PluginError: it cannot be loaded.
        """
        return self.load(self.find_frontend(name))

    def find_frontend(self, name: str) -> FoundFrontend:
        """Find the frontend `name` without loading it.

        Raises:
            NotFoundError: nobody offers it.
            FrontendConflictError: several distributions do.
        """
        short = _VERSIONED.sub("", name)
        return _builtin(short) if short in _BUILTIN_FRONTENDS else self.find_installed(name)

    def find_installed(self, name: str) -> FoundFrontend:
        """Find a frontend by its name alone, with all that its manifest says.

        `DISTRIBUTION:` is the only frontend of that distribution.

        Raises:
            NotFoundError: nobody offers it.
            FrontendConflictError: several distributions do.
        """
        from torana.plugins.selection import find_named, only_name, unknown_name

        frontends = self.frontends()
        distribution, _, bare = name.rpartition(":")
        if distribution and not bare:
            bare = only_name(distribution, frontends)
        found = find_named(bare, distribution, "", frontends)
        if found is None:
            raise unknown_name(name, frontends)
        return found

    def check(self, found: FoundFrontend) -> None:
        """Refuse a frontend that is blocked, or known to be broken, without importing it.

        Raises:
            PluginError: it is.
        """
        from torana.plugins.loading import check_frontend

        check_frontend(found, self.rules)

    def load(self, found: FoundFrontend) -> Any:
        """Import a frontend and make its object.

        Raises:
            PluginError: it is blocked, broken, or written for another api.
        """
        from torana.plugins.loading import load_frontend

        return load_frontend(found, self.rules)

    def frontends(self) -> list[FoundFrontend]:
        """Give all frontends that are installed, built-in ones first; blocked ones say so."""
        from dataclasses import replace

        found = []
        for each in self._installed.frontends:
            refusal = self.rules.refusal(each.name, each.distribution, is_builtin=each.is_builtin)
            found.append(replace(each, problem=refusal) if refusal else each)
        return found

    @property
    def broken_distributions(self) -> list[Distribution]:
        """Give those whose metadata cannot be read."""
        return [each for each in self._installed.distributions if each.problem]

    def reserved_alias(self, repository: str) -> FoundFrontend | None:
        """Give the built-in frontend that stands for all images of a repository."""
        name = _BUILTIN_ALIASES.get(repository)
        if name is None or self.rules.refusal(name, "torana", is_builtin=True):
            return None
        return _builtin(name)

    @cached_property
    def _installed(self) -> Installed:
        from torana.plugins.installed import Installed

        return Installed()

    # Hooks

    @cached_property
    def hooks(self) -> pluggy.PluginManager:
        """The built-in plugins; those of other distributions join when they are asked."""
        import pluggy

        from torana.plugins import hookspecs

        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        for module in _BUILTIN_PLUGINS:
            manager.register(importlib.import_module(module), name=module)
        return manager

    def find(self, hook: str, wanted: str, /, **arguments: Any) -> Any:
        """Ask the plugins of a `firstresult` hook, until one answers other than None.

        Built-in plugins come first, then those whose entry point is called `wanted`, then all
        others. What cannot be loaded is skipped and remembered in `problems`.
        """
        found = getattr(self.hooks.hook, hook)(**arguments)
        external = self._external
        while found is None and external:
            external.sort(key=lambda each: each[0] == wanted)
            if self._register(*external.pop()):
                found = getattr(self.hooks.hook, hook)(**arguments)
        return found

    def everything(self, hook: str) -> list[Any]:
        """Give the answers of all plugins to a listing hook, in one list."""
        while self._external:
            self._register(*self._external.pop())
        return [each for answer in getattr(self.hooks.hook, hook)() for each in answer]

    @cached_property
    def _external(self) -> list[tuple[str, str, Distribution]]:
        """Plugins that are not loaded yet: name, target, distribution; the last one comes next."""
        from torana.plugins.installed import PLUGINS

        found = []
        for each in self._installed.distributions:
            for group, name, target in each.entries:
                if group == PLUGINS and not self.rules.refusal(name, each.name):
                    found.append((name, target, each))
        return list(reversed(found))

    def _register(self, name: str, target: str, distribution: Distribution) -> bool:
        from pluggy import PluginValidationError

        from torana.plugins.installed import PluginError
        from torana.plugins.loading import load_plugin

        try:
            plugin = load_plugin(name, target, distribution)
            self.hooks.register(plugin, name=f"{distribution.name}:{name}")
            self.hooks.check_pending()
        except (PluginError, PluginValidationError, ValueError) as err:
            self.problems.append(getattr(err, "message", None) or f"plugin `{name}` of {err}")
            return False
        return True

    def _missing(
        self, message: str, known: Callable[[], Iterable[str]], kind: type[ToranaError] = UsageError
    ) -> ToranaError:
        names = ", ".join(f"`{name}`" for name in sorted(set(known())))
        hint = f"known: {names}"
        if self.problems:
            hint += "; not loaded: " + "; ".join(self.problems)
        return kind(message, hint=hint)

    def exporter(self, type: str) -> Exporter:
        """Give the exporter of `type`.

        Raises:
            UsageError: there is none.
        """
        found: Exporter | None = self.find("torana_find_exporter", type, type=type)
        if found is None:
            raise self._missing(
                f'exporter "{type}" could not be found',
                lambda: self.everything("torana_list_exporters"),
            )
        return found

    def cache_backend(self, type: str, *, action: str) -> CacheBackend:
        """Give the cache backend of `type`; `action` is `importer` or `exporter`.

        Raises:
            UsageError: there is none.
        """
        found: CacheBackend | None = self.find("torana_find_cache_backend", type, type=type)
        if found is None:
            raise self._missing(
                f'unknown cache {action}: "{type}"',
                lambda: self.everything("torana_list_cache_backends"),
            )
        return found

    def source(self, scheme: str) -> Source | None:
        """Give the source for a scheme, None if no plugin serves it."""
        found: Source | None = self.find("torana_find_source", scheme, scheme=scheme)
        return found

    def runtimes(self, wanted: str = "") -> list[Runtime]:
        """Give the built-in runtimes in order of preference, and the one of that name first."""
        found = [each for part in self.hooks.hook.torana_list_runtimes() for each in part]
        if wanted and all(each.name != wanted for each in found):
            found = self.everything("torana_list_runtimes")
        return found

    def snapshotter(self, name: str) -> MakeSnapshotter:
        """Give what makes the snapshotter `name`.

        Raises:
            UsageError: there is none.
        """
        found: MakeSnapshotter | None = self.find("torana_find_snapshotter", name, name=name)
        if found is None:
            from torana.core.snapshots.choose import NAMES

            raise self._missing(f"unknown snapshotter: `{name}`", lambda: NAMES)
        return found

    def secret_reader(self, type: str) -> SecretReader:
        """Give what reads secrets of a type.

        Raises:
            UsageError: nobody does.
        """
        found: SecretReader | None = self.find("torana_find_secret_reader", type, type=type)
        if found is None:
            raise self._missing(f"unknown type of secret: `{type}`", lambda: ["env", "file"])
        return found

    def policies(self, wanted: Mapping[str, Mapping[str, Any]]) -> list[Policy]:
        """Give policies by their names, with their settings.

        Raises:
            NotFoundError: nobody offers one of them.
            UserError: its settings make no sense.
        """
        found = []
        for name, settings in wanted.items():
            policy = self.find("torana_find_policy", name, name=name, settings=settings)
            if policy is None:
                raise self._missing(f"unknown policy: `{name}`", lambda: ["sources"], NotFoundError)
            found.append(policy)
        return found

    def display(self, mode: str) -> OpenDisplay:
        """Give what opens the progress display of a mode.

        Raises:
            UsageError: there is none.
        """
        found: OpenDisplay | None = self.find("torana_find_display", mode, mode=mode)
        if found is None:
            raise self._missing(
                f"unknown progress display: `{mode}`",
                lambda: self.everything("torana_list_displays"),
            )
        return found


def _builtin(name: str) -> FoundFrontend:
    from torana import __version__
    from torana.plugins.installed import FoundFrontend

    return FoundFrontend(
        name=name,
        target=_BUILTIN_FRONTENDS[name],
        distribution="torana",
        version=__version__,
        is_builtin=True,
    )


def builtin_names() -> Iterator[str]:
    """Give the names of built-in frontends."""
    yield from _BUILTIN_FRONTENDS
