"""`FileSync`: folders of the client, sent to the engine that asks for one by name.

Spec: `moby.filesync.v1.FileSync`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote_plus, unquote_plus

from torana.core.errors import NotFoundError, UnsupportedError
from torana.core.pool import run_blocking
from torana.core.records import dataclass
from torana.gateway.session.files.receiver import ReceiveOptions, receive_tree
from torana.gateway.session.files.sender import OnBytes, send_tree
from torana.gateway.session.files.walk import FolderTree, Selection, owned_by_root
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Session,
    Stream,
    Streaming,
    value,
)

DIFF_COPY: Final = "/moby.filesync.v1.FileSync/DiffCopy"
TAR_STREAM: Final = "/moby.filesync.v1.FileSync/TarStream"
_NAME: Final = "dir-name"
_KEYS: Final = {
    "include": "include-patterns",
    "exclude": "exclude-patterns",
    "follow_paths": "followpaths",
}


class FolderNotOfferedError(NotFoundError):
    """The client does not offer a folder of that name."""

    code = "LOCAL_NOT_OFFERED"


class FileSync:
    """The client's end: offers `folders` by name, owners set to 0:0 as BuildKit's clients do."""

    def __init__(self, folders: Mapping[str, Path], on_bytes: OnBytes | None = None) -> None:
        self._folders = folders
        self._on_bytes = on_bytes

    def methods(self) -> Mapping[str, Handler]:
        return {DIFF_COPY: Streaming(self._send), TAR_STREAM: Streaming(self._refuse)}

    async def _send(self, stream: Stream, metadata: Metadata) -> None:
        name, selection = read_metadata(metadata)
        folder = self._folders.get(name)
        if folder is None:
            raise FolderNotOfferedError(f'no access allowed to dir "{name}"')
        opened: list[FolderTree] = []
        try:
            await run_blocking(lambda: opened.append(FolderTree(folder, selection, owned_by_root)))
            await send_tree(stream, opened[0], self._on_bytes)
        finally:
            for tree in opened:
                tree.close()

    async def _refuse(self, stream: Stream, metadata: Metadata) -> None:
        raise UnsupportedError("failed to negotiate protocol")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRequest:
    """What the engine asks for: a folder by name, and what of it; None leaves a filter out."""

    name: str
    include: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    follow_paths: Sequence[str] | None = None


async def receive_folder(
    session: Session, request: FolderRequest, folder: Path, options: ReceiveOptions
) -> None:
    """Bring `folder` to what the client's folder of that name holds.

    Raises:
        FolderNotOfferedError: the client has none, or offers none at all.
        ToranaError: the transfer failed; what has come is whole, and the next transfer goes on.
    """
    if not session.supports(DIFF_COPY):
        raise FolderNotOfferedError("no local sources enabled")
    async with session.stream(DIFF_COPY, write_metadata(request)) as stream:
        await receive_tree(stream, folder, options, is_caller=True)


def write_metadata(request: FolderRequest) -> Metadata:
    """Give a request as metadata; values that are not ASCII are escaped, all of a key together."""
    pairs: list[tuple[str, str]] = []
    lists: dict[str, Sequence[str]] = {_NAME: [request.name]}
    lists |= {key: getattr(request, field) or () for field, key in _KEYS.items()}
    for key, values in lists.items():
        is_encoded = not all(_is_plain(text) for text in values)
        if is_encoded:
            pairs.append((f"{key}-encoded", "1"))
        pairs += [(key, quote_plus(text, safe="~") if is_encoded else text) for text in values]
    return pairs


def read_metadata(metadata: Metadata) -> tuple[str, Selection]:
    """Give the name of a folder and what is asked of it."""
    names = _values(metadata, _NAME)
    lists = {field: tuple(_values(metadata, key)) for field, key in _KEYS.items()}
    return next(iter(names), ""), Selection(**lists)


def _values(metadata: Metadata, key: str) -> Iterable[str]:
    values = [text for name, text in metadata if name == key]
    if value(metadata, f"{key}-encoded") in ("1", "t", "T", "true", "TRUE", "True"):
        return [unquote_plus(text, errors="surrogateescape") for text in values]
    return values


def _is_plain(text: str) -> bool:
    """Say whether a value can stand in a header: printable ASCII, no blanks at its ends."""
    return text.isascii() and text.isprintable() and text == text.strip()
