"""Installed plugins, from the metadata of distributions alone: nothing of them is imported.

A distribution that cannot be read, or whose manifest is wrong, is reported with its name, and hides
no other one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from itertools import chain
from typing import Final

from torana.core.errors import ToranaError, UserError
from torana.core.records import dataclass
from torana.plugins.manifest import (
    API,
    FILENAME,
    InvalidManifestError,
    Manifest,
    parse_manifest,
)
from torana.plugins.metadata import MetadataFiles, entry_points, installed_metadata
from torana.plugins.rules import normal

FRONTENDS: Final = "torana.frontends"
PLUGINS: Final = "torana.plugins"
_GROUPS: Final = (FRONTENDS, PLUGINS)
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
    files: MetadataFiles | None = field(default=None, compare=False)

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
    files: MetadataFiles | None = field(default=None, compare=False, repr=False)

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
        found: dict[str, Distribution | None] = {}
        for files in installed_metadata():
            read = _read(files)
            name = files.label.partition("-")[0] if read is None else read.name
            found.setdefault(normal(name), read)
        with_plugins = filter(None, found.values())
        return sorted(with_plugins, key=lambda each: (not each.is_builtin, normal(each.name)))

    @cached_property
    def frontends(self) -> list[FoundFrontend]:
        """Give all frontends, built-in ones first, then by distribution."""
        return [
            _frontend(each, name, target)
            for each in self.distributions
            for group, name, target in each.entries
            if group == FRONTENDS
        ]


def _read(files: MetadataFiles) -> Distribution | None:
    """Read a distribution, None if it has nothing for us."""
    problem = ""
    entries: tuple[tuple[str, str, str], ...] = ()
    try:
        text = files.read_text("entry_points.txt")
        if text is None or not any(group in text for group in _GROUPS):
            return None
        entries = tuple(entry for entry in entry_points(text) if entry[0] in _GROUPS)
    except OSError:
        return None
    except ValueError as err:
        if isinstance(err, UnicodeDecodeError) and not _concerns_us(err.object):
            return None
        problem = f"its entry_points.txt cannot be read: {err}"
    if not (entries or problem):
        return None
    name, version = _identity(files)
    return Distribution(name=name, version=version, entries=entries, problem=problem, files=files)


def _concerns_us(data: bytes) -> bool:
    return any(group.encode() in data for group in _GROUPS)


def _identity(files: MetadataFiles) -> tuple[str, str]:
    """Give name and version; parsing all of the metadata would take ten times as long."""
    try:
        text = files.read_text("METADATA") or files.read_text("PKG-INFO") or ""
    except (OSError, UnicodeDecodeError):
        text = ""
    headers: dict[str, str] = {}
    for line in text.partition("\n\n")[0].splitlines():
        key, colon, value = line.partition(":")
        if colon and key in ("Name", "Version"):
            headers.setdefault(key, value.strip())
    if headers.get("Name"):
        return headers["Name"], headers.get("Version", "")
    name, _, version = files.label.partition("-")
    return name or "?", version


def _frontend(distribution: Distribution, name: str, target: str) -> FoundFrontend:
    manifest, problem = Manifest(), ""
    try:
        assert distribution.files is not None
        _, manifest = _manifest(distribution.files, name, target)
    except ToranaError as err:
        problem = err.message
    except (OSError, UnicodeDecodeError) as err:
        problem = f"its metadata cannot be read: {err}"
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
        files=distribution.files,
    )


def unsupported_api(api: object) -> str:
    return f"it is written for plugin api {api}, and this Torana has api {API}"


def manifest_text(found: FoundFrontend) -> str | None:
    """Give the text of the manifest of a frontend, None if it has none.

    Raises:
        InvalidManifestError: it cannot be read.
    """
    return None if found.files is None else _manifest(found.files, found.name, found.target)[0]


def _manifest(files: MetadataFiles, name: str, target: str) -> tuple[str | None, Manifest]:
    for text in chain(_own_text(files), _texts_in_packages(files, target)):
        manifest = parse_manifest(text)
        if manifest.name in ("", name):
            return text, manifest
    return None, Manifest()


def _own_text(files: MetadataFiles) -> Iterator[str]:
    """Give the manifest that lies among the metadata."""
    try:
        text = files.read_text(FILENAME)
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidManifestError(f"{FILENAME}: cannot be read: {err}") from None
    if text is not None:
        yield text


def _texts_in_packages(files: MetadataFiles, target: str) -> Iterator[str]:
    """Give the manifests in the package of `target` and those above it, the nearest first.

    Last come those that lie elsewhere in the distribution.
    """
    parts = target.partition(":")[0].strip().split(".")
    for folder in _folders(files, parts):
        yield from _text(os.path.join(folder, FILENAME))
    for line in (files.read_text("RECORD") or "").splitlines():
        name = line.partition(",")[0]
        if name.endswith(f"/{FILENAME}"):
            yield from _text(files.locate(name))


def _text(place: str) -> Iterator[str]:
    try:
        with open(place, encoding="utf-8") as file:
            yield file.read()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidManifestError(f"{FILENAME}: cannot be read: {err}") from None


def _folders(files: MetadataFiles, parts: list[str]) -> Iterator[str]:
    """Give the folders of packages; those of an editable install are elsewhere."""
    root = files.locate(parts[0])
    if not os.path.isdir(root):
        found = _imported_from(parts[0])
        if found is None:
            return
        root = found
    for count in range(len(parts), 0, -1):
        yield os.path.join(root, *parts[1:count])


def _imported_from(package: str) -> str | None:
    """Give the folder of a top-level package; finding it imports nothing."""
    loaded = sys.modules.get(package)
    if loaded is not None:
        locations = getattr(loaded, "__path__", None)
    else:
        from importlib.util import find_spec

        try:
            spec = find_spec(package)
        except (ValueError, ImportError, AttributeError):
            return None
        locations = None if spec is None else spec.submodule_search_locations
    return next(iter(locations), None) if locations else None
