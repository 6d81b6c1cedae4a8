"""What a peer may list: clean relative paths, depth first, siblings in byte order.

Every entry is checked before anything is done with it, so that what comes after may trust paths:
its parent was listed as a directory, and a hard link's target as a file.

Spec: docs/design/session.md, hostile peers; fsutil's validator.
"""

from __future__ import annotations

from typing import Final

from torana.core.errors import ToranaError
from torana.gateway.protocol import filemode
from torana.gateway.protocol.files_pb2 import Stat

MAX_DEPTH: Final = 1024
_MAX_NAME_BYTES: Final = 255  # of Linux
_SHOWN_BYTES: Final = 200


class ProtocolError(ToranaError):
    """A peer broke the rules of the file protocol."""

    code = "FILE_PROTOCOL"


class OrderChecker:
    """Checks the entries of one transfer, in the order in which they come."""

    def __init__(self) -> None:
        self._folders: list[tuple[bytes, bytes]] = [(b"", b"")]  # path, name last seen in it
        self._files: set[bytes] = set()

    def check(self, stat: Stat) -> None:
        """Accept the next entry.

        Raises:
            ProtocolError: it must not come here, or not at all.
        """
        path = stat.path
        parent, name = self._check_path(path)
        while self._folders[-1][0] != parent:
            if len(self._folders) == 1:
                raise ProtocolError(f"changes out of order: {shown(path)} without its folder")
            self._folders.pop()
        last = self._folders[-1][1]
        if name <= last:
            raise ProtocolError(f"changes out of order: {shown(path)} after {shown(last)}")
        self._folders[-1] = (parent, name)
        kind = stat.mode & filemode.TYPE
        if kind == filemode.DIR:
            if len(self._folders) > MAX_DEPTH:
                raise ProtocolError(f"folders are nested too deeply: {shown(path)}")
            self._folders.append((path, b""))
        elif kind == filemode.SYMLINK:
            if not stat.linkname or b"\0" in stat.linkname:
                raise ProtocolError(f"link without a target: {shown(path)}")
        elif stat.linkname:
            if stat.linkname not in self._files:
                target = shown(stat.linkname)
                raise ProtocolError(f"invalid link {shown(path)} to unknown path: {target}")
        else:
            self._files.add(path)

    def _check_path(self, path: bytes) -> tuple[bytes, bytes]:
        if path.startswith(b"/"):
            raise ProtocolError(f"absolute path: {shown(path)}")
        parts = path.split(b"/")
        if b".." in parts:
            raise ProtocolError(f"escape check: {shown(path)}")
        if b"" in parts or b"." in parts or b"\0" in path:
            raise ProtocolError(f"unclean path: {shown(path)}")
        if len(parts[-1]) > _MAX_NAME_BYTES:
            raise ProtocolError(f"name is too long: {shown(path)}")
        return path.rpartition(b"/")[0], parts[-1]


def shown(path: bytes) -> str:
    """Give a peer's path as it can be printed: quoted, of bounded length."""
    text = path[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return f"`{text}...`" if len(path) > _SHOWN_BYTES else f"`{text}`"
