"""Included files: found, pinned, and told apart from those that are being read already.

An address is a path beside the file that includes (`common/base.mini`), or a download with its
digest: `https://example.org/base.mini#sha256=...`. A path in a downloaded file is relative to its
address, and needs a digest, too. What is not pinned is refused: it might change between two builds.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final
from urllib.parse import urljoin

from torana.core.errors import NotFoundError, SourceRange, ToranaError
from torana.core.llb.definition import Definition, SourceInfo
from torana.core.llb.places import located_at
from torana.core.llb.state import http
from torana.core.records import dataclass
from torana.frontends.kit.beside import read_beside
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.tree import Place

_PIN: Final = re.compile(r"sha256[=:]([0-9a-f]{64})")
_REMOTE: Final = ("http://", "https://")
_MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class IncludedFile:
    """The text of an included file; `place` is all of it."""

    text: str
    place: Place


async def read_included(context: BuildContext, address: str, at: Place) -> IncludedFile:
    """Read the file at `address`, which `at` includes.

    Raises:
        BuildFileError: it is missing, not pinned, or is being read already.
    """
    address, pin = _split(address, at)
    stack = [place.file.filename for place in at.stack()]
    if address in stack:
        chain = " -> ".join((*reversed(stack), address))
        raise at.error(f"include cycle: {chain}")
    if len(stack) > _MAX_DEPTH:
        raise at.error(f"includes are nested more than {_MAX_DEPTH} deep")
    with located_at(()):
        try:
            data, definition = await _load(context, address, pin, at)
        except NotFoundError as err:
            raise at.error(f"no such file: `{address}`") from err
        except ToranaError as err:
            at.attach(err)
            raise
    return _included(address, data, definition, at, context.file.language)


def _split(address: str, at: Place) -> tuple[str, str]:
    """Give the full address and its digest."""
    address, _, fragment = address.partition("#")
    base = at.file.filename
    if not address.startswith(_REMOTE) and not base.startswith(_REMOTE):
        if fragment:
            raise at.error("files beside the build file need no digest", hint="drop the `#...`")
        folder = posixpath.dirname(base)
        path = posixpath.normpath(posixpath.join(folder, address))
        if path.startswith(("/", "..")):
            raise at.error(f"outside of the build file's folder: `{address}`")
        return path, ""
    pin = _PIN.fullmatch(fragment)
    if pin is None:
        raise at.error(
            f"not pinned: `{address}`", hint="add its digest: `#sha256=` and 64 hex digits"
        )
    return urljoin(base, address), pin[1]


async def _load(
    context: BuildContext, address: str, pin: str, at: Place
) -> tuple[bytes, Definition]:
    if not pin:
        found = await read_beside(context, address)
        if found is None:
            raise NotFoundError(f"no such file: `{address}`")
        return found
    state = http(
        address,
        filename="included",
        checksum=f"sha256:{pin}",
        custom_name=f"[internal] load {address}",
    )
    reference = await context.solve(state)
    assert reference is not None
    return await reference.read_file("included"), context.marshal(state)


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
