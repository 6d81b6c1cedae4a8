"""Loading a build file with all that it includes: the one place that reads other files.

A path stays in the tree that the including file is in; git needs a commit, https a checksum; a
package is found by its entry point, and its text read without importing it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from torana.core.errors import ToranaError
from torana.core.llb.definition import Definition
from torana.core.records import dataclass
from torana.frontends.kit.beside import read_beside
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.gitref import parse_git_ref
from torana.frontends.kit.included import read_download, read_from
from torana.frontends.kit.lock import Lock, LockError, Pins, digest_of
from torana.frontends.kit.sources import git_state
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.yamltree import Items, Mark, Node, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml.document import (
    Document,
    IncludeDeclaration,
    read_document,
    read_includes,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "torana.steps"
MAX_INCLUDES: Final = 100
MAX_CHAIN: Final = 16
_LANGUAGE: Final = "YAML"


@dataclass(frozen=True, slots=True)
class _Home:
    """Where a file was found: `key` names it, paths in it are relative to `folder`."""

    key: str
    folder: str = ""
    git: str = ""
    commit: str = ""
    is_closed: bool = False  # a download or a package: nothing lies beside it


@dataclass(slots=True)
class Loader:
    """Loads one build; `pins` notes the checksums of what was included, by name in the lock."""

    context: BuildContext
    pins: Pins
    _count: int = 0

    async def load(self) -> Document:
        """Load the main file and all it includes.

        Raises:
            ToranaError: a file is wrong or cannot be found; located.
        """
        file = self.context.file
        document = read_document(file)
        home = _Home(file.filename, posixpath.dirname(file.filename))
        await self._fill(document, home, (home.key,))
        return document

    async def _fill(self, document: Document, home: _Home, chain: tuple[str, ...]) -> None:
        for each in read_includes(document):
            self._count += 1
            if self._count > MAX_INCLUDES or len(chain) > MAX_CHAIN:
                raise each.mark.error(
                    f"more than {MAX_INCLUDES} includes, or {MAX_CHAIN} inside each other"
                )
            try:
                file, inner = await self._read(each, home)
            except ToranaError as err:
                if not err.sources:
                    err.sources = (each.mark.file.excerpt((each.mark.range,)),)
                raise
            if inner.key in chain:
                circle = " -> ".join((*chain[chain.index(inner.key) :], inner.key))
                raise each.mark.error(f"files include each other in a circle: {circle}")
            self._pin(each, file)
            included = read_document(file, f"{document.prefix}{each.alias}.")
            document.includes[each.alias] = included
            await self._fill(included, inner, (*chain, inner.key))
        for name in _packs(document):
            if name not in document.includes and (entry := _find_pack(name)) is not None:
                document.packs[name] = read_document(_pack_file(entry, None), f"{name}/")

    def _pin(self, each: IncludeDeclaration, file: SourceFile) -> None:
        found = digest_of(file.data)
        if each.package:
            found = f"{_version(each.package)} {found}"
        try:
            self.pins.include(each.key, found)
        except LockError as err:
            raise each.mark.error(err.message, hint=err.hint) from err

    async def _read(self, each: IncludeDeclaration, home: _Home) -> tuple[SourceFile, _Home]:
        if each.package:
            entry = _find_pack(each.package)
            if entry is None:
                known = [found.name for found in _all_packs()]
                near = suggest(each.package, known)
                raise each.mark.error(
                    f"no installed distribution has steps called `{each.package}`",
                    hint=f"did you mean `{near}`?" if near else f"pip install {each.package}",
                )
            file = _pack_file(entry, each.mark)
            return file, _Home(f"package {each.package}", is_closed=True)
        if each.url:
            return await self._download(each)
        if each.git:
            return await self._from_git(each.git, each.commit, each.path, each.mark)
        if home.is_closed:
            raise each.mark.error("nothing lies beside a download or a package")
        path = posixpath.normpath(posixpath.join(home.folder, each.path))
        if path.startswith(("../", "/")) or path == "..":
            raise each.mark.error(f"outside of the tree of the build file: `{each.path}`")
        if home.git:
            return await self._from_git(home.git, home.commit, path, each.mark)
        found = await read_beside(self.context, path)
        if found is None:
            raise each.mark.error(f"no such file: `{path}`")
        file = _file(path, found[0], found[1])
        return file, _Home(path, posixpath.dirname(path))

    async def _download(self, each: IncludeDeclaration) -> tuple[SourceFile, _Home]:
        name = f"[internal] include {each.url}"
        read = await read_download(self.context, each.url, each.sha256, "include.yaml", name)
        return _file(each.url, *read), _Home(each.url, is_closed=True)

    async def _from_git(
        self, url: str, commit: str, path: str, mark: Mark
    ) -> tuple[SourceFile, _Home]:
        from dataclasses import replace

        ref = parse_git_ref(url)
        if ref is None:
            raise mark.error(
                f"not the address of a git repository: `{url}`",
                hint="of https and http, it ends in .git",
            )
        path = posixpath.normpath(path)
        if path.startswith(("../", "/")) or path == "..":
            raise mark.error(f"outside of the repository: `{path}`")
        pinned = replace(ref, ref=commit)
        state = git_state(pinned, name=f"[internal] include {path} of {url}")
        read = await read_from(self.context, state, path)
        name = f"{url}#{commit[:12]}:{path}"
        home = _Home(f"{url} {path}", posixpath.dirname(path), git=url, commit=commit)
        return _file(name, *read), home


async def open_document(context: BuildContext, lock: Lock) -> Document:
    """Load a build file with all that it includes.

    Raises:
        ToranaError: a file is wrong or cannot be found; located.
    """
    return await Loader(context, Pins(lock)).load()


def _file(name: str, data: bytes, definition: Definition | None = None) -> SourceFile:
    return SourceFile(filename=name, data=data, language=_LANGUAGE, definition=definition)


def _packs(document: Document) -> list[str]:
    """Give the names before a slash in `uses`, in order; those with expressions cannot be known."""
    found: dict[str, None] = {}
    for steps in _step_lists(document):
        for item in steps:
            uses = fields.text(item.get("uses")) if isinstance(item, Table) else ""
            name, slash, _ = uses.partition("/")
            if slash and uses not in document.templates and re.fullmatch(r"[\w.-]+", name):
                found[name] = None
    return list(found)


def _step_lists(document: Document) -> Iterator[Items]:
    for template in document.templates.values():
        yield template.steps
    for entry in document.stages.values():
        node: Node | None = entry.node.get("steps") if isinstance(entry.node, Table) else None
        if isinstance(node, Items):
            yield node


# Step packs: what installed distributions offer.


def _all_packs() -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP), key=lambda entry: entry.name)


def _find_pack(name: str) -> EntryPoint | None:
    return next((entry for entry in _all_packs() if entry.name == name), None)


def _version(name: str) -> str:
    entry = _find_pack(name)
    dist = None if entry is None else entry.dist
    return "?" if dist is None else f"{dist.name}=={dist.version}"


def _pack_file(entry: EntryPoint, mark: Mark | None) -> SourceFile:
    """Read the file that an entry point `NAME = PACKAGE[:FILE]` names, `steps.yaml` by default."""
    from importlib.util import find_spec

    name = f"{entry.attr or 'steps'}.yaml"
    try:
        spec = find_spec(entry.module)
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        if not folders:
            raise FileNotFoundError(f"`{entry.module}` is no package")
        with open(f"{folders[0]}/{name}", "rb") as stream:
            data = stream.read()
    except (OSError, ImportError, ValueError) as err:
        where = _version(entry.name)
        text = f"steps `{entry.name}` of {where} cannot be read: {err}"
        raise mark.error(text) if mark is not None else ToranaError(text) from err
    return _file(f"{entry.name}/{name}", data)
