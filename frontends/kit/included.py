"""Included files: found, pinned, and told apart from those that are being read already.

An address is a path beside the file that includes (`common/base.mini`), a download with its digest
(`https://example.org/base.mini#sha256=...`), or a path in a git repository at a commit
(`https://example.org/common.git#COMMIT:base.mini`). A path in a repository's file stays in that
repository and commit; one in a downloaded file is relative to its address, and needs a digest, too.
What is not pinned is refused: it might change between two builds.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from typing import Final
from urllib.parse import urljoin

from torana.core.errors import NotFoundError, SourceRange, ToranaError
from torana.core.llb.definition import Definition, SourceInfo
from torana.core.llb.places import located_at
from torana.core.llb.state import State, http
from torana.core.records import dataclass
from torana.frontends.kit.beside import read_beside
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.gitref import GitRef, parse_git_ref
from torana.frontends.kit.lock import Pins, digest_of
from torana.frontends.kit.sources import git_state
from torana.frontends.kit.tree import Place

_PIN: Final = re.compile(r"sha256[=:]([0-9a-f]{64})")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REMOTE: Final = ("http://", "https://")
_MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class IncludedFile:
    """The text of an included file; `place` is all of it."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a file lies; `name` is the address in full, which tells files apart.

    With `git` it is at `path` of that repository; with `sha256` it is a download; else it lies at
    `path` beside the build file.
    """

    name: str
    path: str = ""
    sha256: str = ""
    git: GitRef | None = None


async def read_included(
    context: BuildContext, address: str, at: Place, pins: Pins | None = None
) -> IncludedFile:
    """Read the file at `address`, which `at` includes; `pins` notes what it was.

    Raises:
        BuildFileError: it is missing, not pinned, or is being read already.
        LockError: it is not what the lock file says.
    """
    found = find_address(address, at)
    stack = [place.file.filename for place in at.stack()]
    if found.name in stack:
        chain = " -> ".join((*reversed(stack), found.name))
        raise at.error(f"include cycle: {chain}")
    if len(stack) > _MAX_DEPTH:
        raise at.error(f"includes are nested more than {_MAX_DEPTH} deep")
    with located_at(()):
        try:
            data, definition = await _load(context, found)
            if pins is not None:
                pins.include(found.name, digest_of(data))
        except NotFoundError as err:
            raise at.error(f"no such file: `{found.name}`") from err
        except ToranaError as err:
            at.attach(err)
            raise
    return _included(found.name, data, definition, at, context.file.language)


def find_address(address: str, at: Place) -> Address:
    """Give where an address leads that stands at `at`.

    Raises:
        BuildFileError: nowhere, or to something that is not pinned.
    """
    base = at.file.filename
    ref, home = _git(address, at), _git(base, at)
    if ref is not None:
        return _in_repository(ref, ref.subdir, at)
    if home is not None and not address.startswith(_REMOTE):
        path = posixpath.join(posixpath.dirname(home.subdir), _without_pin(address, at))
        return _in_repository(home, path, at)
    if not address.startswith(_REMOTE) and not base.startswith(_REMOTE):
        path = posixpath.join(posixpath.dirname(base), _without_pin(address, at))
        path = _inside(path, "the build file's folder", at)
        return Address(name=path, path=path)
    address, _, fragment = address.partition("#")
    pin = _PIN.fullmatch(fragment)
    if pin is None:
        raise at.error(
            f"not pinned: `{address}`", hint="add its digest: `#sha256=` and 64 hex digits"
        )
    return Address(name=urljoin(base, address), sha256=pin[1])


def _git(text: str, at: Place) -> GitRef | None:
    try:
        ref = parse_git_ref(text)
    except ToranaError as err:
        at.attach(err)
        raise
    return None if ref is None or ref.is_like_local else ref


def _without_pin(address: str, at: Place) -> str:
    path, hash_, _ = address.partition("#")
    if hash_:
        raise at.error("files beside the build file need no digest", hint="drop the `#...`")
    return path


def _inside(path: str, what: str, at: Place) -> str:
    found = posixpath.normpath(path)
    if found.startswith("/") or found == ".." or found.startswith("../"):
        raise at.error(f"outside of {what}: `{path}`")
    return found


def _in_repository(ref: GitRef, path: str, at: Place) -> Address:
    commit = next((text for text in (ref.checksum, ref.ref) if _COMMIT.fullmatch(text)), None)
    if commit is None:
        raise at.error(
            f"not pinned: `{ref.remote}`",
            hint="name the whole commit: `#COMMIT:PATH`, COMMIT has 40 hex digits",
        )
    if not path:
        raise at.error(f"no file of the repository is named: `{ref.remote}`", hint="`#COMMIT:PATH`")
    path = _inside(path, "the repository", at)
    whole = replace(ref, subdir="")
    return Address(name=f"{ref.remote}#{commit}:{path}", path=path, git=whole)


async def _load(context: BuildContext, address: Address) -> tuple[bytes, Definition]:
    name = f"[internal] load {address.name}"
    if address.git is not None:
        state = git_state(address.git, name=name)
        return await read_from(context, state, address.path)
    if address.sha256:
        return await read_download(context, address.name, address.sha256, "included", name)
    found = await read_beside(context, address.path)
    if found is None:
        raise NotFoundError(f"no such file: `{address.path}`")
    return found


async def read_download(
    context: BuildContext, url: str, sha256: str, filename: str, name: str
) -> tuple[bytes, Definition]:
    """Download a file that has that digest; give its bytes and the definition that loads it."""
    checksum = sha256 if sha256.startswith("sha256:") else f"sha256:{sha256}"
    state = http(url, filename=filename, checksum=checksum, custom_name=name)
    return await read_from(context, state, filename)


async def read_from(context: BuildContext, state: State, path: str) -> tuple[bytes, Definition]:
    """Read a file of a tree; give its bytes and the definition of the tree."""
    reference = await context.solve(state)
    assert reference is not None
    return await reference.read_file(path), context.marshal(state)


def _included(
    address: str, data: bytes, definition: Definition, at: Place, language: str
) -> IncludedFile:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as err:
        raise at.error(f"not UTF-8: `{address}`") from err
    file = SourceFile(filename=address, data=data, language=language, definition=definition)
    info = SourceInfo(address, data, language, definition)
    whole = SourceRange.lines(address, 1, text.count("\n") + 1)
    return IncludedFile(text, Place(file, info, whole, at))
