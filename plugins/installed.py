"""Installed plugins, from the metadata of distributions alone: nothing of them is imported.

A distribution that cannot be read, or whose manifest is wrong, is reported with its name, and hides
no other one.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Final

from torana.core.errors import ToranaError, UserError
from torana.plugins.manifest import (
    API,
    FILENAME,
    InvalidManifestError,
    Manifest,
    parse_manifest,
)
from torana.plugins.rules import normal

FRONTENDS: Final = "torana.frontends"
PLUGINS: Final = "torana.plugins"
_GROUPS: Final = (FRONTENDS, PLUGINS)
_HEADER: Final = re.compile(r"^(Name|Version):[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_OWN: Final = "torana"


class PluginError(UserError):
    """A plugin cannot be used; the message names it, its distribution and its version."""

    code = "PLUGIN_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """An installed distribution with plugins, or one whose metadata cannot be read."""

    name: str
    version: str
    entries: tuple[tuple[str, str, str], ...] = ()  # group, name, module:attribute
    problem: str = ""
    source: metadata.Distribution | None = field(default=None, compare=False)

    @property
    def is_builtin(self) -> bool:
        return self.name == _OWN

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFrontend:
    """A frontend that could be loaded; `problem` says why it cannot, as far as that is known."""

    name: str
    target: str  # module:attribute
    distribution: str
    version: str
    manifest: Manifest = field(default_factory=Manifest)
    problem: str = ""
    is_builtin: bool = False

    @property
    def qualified_name(self) -> str:
        return f"{self.distribution}:{self.name}"

    def __str__(self) -> str:
        """Name plugin, distribution and version, for messages."""
        return f"`{self.name}` of distribution `{self.distribution}` {self.version}".strip()


class Installed:
    """The distributions on `sys.path`, looked at once."""

    @cached_property
    def distributions(self) -> list[Distribution]:
        """Give those with plugins, by name; the first one of a name counts, as for imports."""
        found: dict[str, Distribution] = {}
        for source in metadata.distributions():
            read = _read(source)
            if read is not None:
                found.setdefault(normal(read.name), read)
        return sorted(found.values(), key=lambda each: (not each.is_builtin, normal(each.name)))

    @cached_property
    def frontends(self) -> list[FoundFrontend]:
        """Give all frontends, built-in ones first, then by distribution."""
        return [
            _frontend(each, name, target)
            for each in self.distributions
            for group, name, target in each.entries
            if group == FRONTENDS
        ]


def _read(source: metadata.Distribution) -> Distribution | None:
    """Read a distribution, None if it has nothing for us."""
    try:
        text = source.read_text("entry_points.txt")
        if text is None or not any(group in text for group in _GROUPS):
            return None
    except (OSError, UnicodeDecodeError):
        return None
    name, version = _identity(source)
    try:
        entries = tuple(
            (entry.group, entry.name, entry.value)
            for entry in source.entry_points
            if entry.group in _GROUPS
        )
    except Exception as err:  # the parser of the standard library fails in many ways
        return Distribution(
            name=name,
            version=version,
            problem=f"its entry_points.txt cannot be read: {type(err).__name__}",
        )
    if not entries:
        return None
    return Distribution(name=name, version=version, entries=entries, source=source)


def _identity(source: metadata.Distribution) -> tuple[str, str]:
    """Give name and version; parsing all of the metadata would take ten times as long."""
    try:
        text = source.read_text("METADATA") or source.read_text("PKG-INFO") or ""
    except (OSError, UnicodeDecodeError):
        text = ""
    headers = dict(reversed(_HEADER.findall(text.partition("\n\n")[0])))
    if headers.get("Name"):
        return headers["Name"], headers.get("Version", "")
    folder = Path(str(getattr(source, "_path", ""))).name.partition(".dist-info")[0]
    name, _, version = folder.partition("-")
    return name or "?", version


def _frontend(distribution: Distribution, name: str, target: str) -> FoundFrontend:
    manifest, problem = Manifest(), ""
    try:
        assert distribution.source is not None
        _, manifest = _manifest(distribution.source, name, target)
    except ToranaError as err:
        problem = err.message
    if manifest.api != API and not problem:
        problem = unsupported_api(manifest.api)
    return FoundFrontend(
        name=name,
        target=target,
        distribution=distribution.name,
        version=distribution.version,
        manifest=manifest,
        problem=problem,
        is_builtin=distribution.is_builtin,
    )


def unsupported_api(api: object) -> str:
    return f"it is written for plugin api {api}, and this Torana has api {API}"


def manifest_text(found: FoundFrontend) -> str | None:
    """Give the text of the manifest of a frontend, None if it has none.

    Raises:
        InvalidManifestError: it cannot be read.
    """
    text, _ = _manifest(metadata.distribution(found.distribution), found.name, found.target)
    return text


def _manifest(source: metadata.Distribution, name: str, target: str) -> tuple[str | None, Manifest]:
    text = source.read_text(FILENAME)
    own = () if text is None else (text,)
    for found in chain(own, _texts_in_packages(source, target)):
        manifest = parse_manifest(found)
        if manifest.name in ("", name):
            return found, manifest
    return None, Manifest()


def _texts_in_packages(source: metadata.Distribution, target: str) -> Iterator[str]:
    """Give the manifests in the package of `target` and those above it, the nearest first.

    Last come those that lie elsewhere in the distribution.
    """
    parts = target.partition(":")[0].strip().split(".")
    for folder in _folders(source, parts):
        yield from _text(folder / FILENAME)
    for line in (source.read_text("RECORD") or "").splitlines():
        name = line.partition(",")[0]
        if name.endswith(f"/{FILENAME}"):
            yield from _text(Path(str(source.locate_file(name))))


def _text(place: Path) -> Iterator[str]:
    try:
        yield place.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidManifestError(f"{FILENAME}: cannot be read: {err}") from None


def _folders(source: metadata.Distribution, parts: list[str]) -> Iterator[Path]:
    """Give the folders of packages; those of an editable install are elsewhere."""
    root = Path(str(source.locate_file(parts[0])))
    if not root.is_dir():
        found = _imported_from(parts[0])
        if found is None:
            return
        root = found
    for count in range(len(parts), 0, -1):
        yield root.joinpath(*parts[1:count])


def _imported_from(package: str) -> Path | None:
    """Give the folder of a top-level package; finding it imports nothing."""
    try:
        spec = importlib.util.find_spec(package)
    except (ValueError, ImportError, AttributeError):
        return None
    locations = None if spec is None else spec.submodule_search_locations
    return Path(next(iter(locations))) if locations else None
