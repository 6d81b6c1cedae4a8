"""`TarSplice`: entries of a layer archive taken from the archive of another layer.

A file that two layers share by a link has the same entry in both archives. Taking its bytes from
the archive that is there saves opening and reading the file and putting its header together.
Archives have their entries in one order, so that both are gone through once, side by side.
"""

from __future__ import annotations

import os
import stat
from typing import IO, Final

_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_LARGEST: Final = 256 << 10  # bytes: reading a bigger file is as fast
_NAME: Final = 100
_SIZE: Final = slice(124, 135)
_KIND: Final = 156
_REGULAR: Final = ord("0")
_RECORDS: Final = ord("x")


class TarSplice:
    """The plain archive that `write_layer` made of the layer at `layer`. For one pass."""

    def __init__(self, archive: IO[bytes], layer: bytes) -> None:
        self._archive = archive
        self._layer = layer
        self._buffer = b""
        self._start = 0  # of what is not used up in the buffer
        self._name: bytes | None = None  # of the next entry; None: its header was not read yet
        self._size_bytes = 0  # of the next entry, with all its headers
        self._is_over = False

    def take(self, path: bytes, status: os.stat_result) -> bytes | None:
        """Give the whole entry of a file, None where it has to be made.

        Paths come in the order of an archive. `status` is that of the file in the new layer.
        """
        if self._is_over or status.st_nlink < 2 or status.st_size > _LARGEST:
            return None
        if not stat.S_ISREG(status.st_mode) or not self._is_shared(path, status):
            return None
        try:
            return self._find(path)
        except (OSError, EOFError, ValueError):
            self._is_over = True  # a damaged archive: all that is left is made
            return None

    def _is_shared(self, path: bytes, status: os.stat_result) -> bool:
        try:
            other = os.lstat(self._layer + b"/" + path)
        except OSError:
            return False
        return other.st_ino == status.st_ino and other.st_dev == status.st_dev

    def _find(self, path: bytes) -> bytes | None:
        while True:
            if self._name is None:
                self._read_header()
            if self._name == path:
                data = self._peek(self._size_bytes)
                self._skip(self._size_bytes)
                return data
            if self._name and self._name.split(b"/") > path.split(b"/"):
                return None
            self._skip(self._size_bytes)

    def _read_header(self) -> None:
        """Look at the next entry. One that cannot be taken has an empty name.

        Raises:
            EOFError: there is none.
        """
        header = self._peek(_BLOCK)
        if not header[0]:
            raise EOFError
        self._name = header[:_NAME].rstrip(b"\0") if header[_KIND] == _REGULAR else b""
        self._size_bytes = _BLOCK + _content_size(header)
        if header[_KIND] == _RECORDS:
            # What they are about comes along: a name that is cut off is not to be found.
            both = self._peek(self._size_bytes + _BLOCK)
            if b" size=" in both[_BLOCK : self._size_bytes]:
                raise ValueError("a size that the header does not hold")
            self._size_bytes += _BLOCK + _content_size(both[self._size_bytes :])

    def _peek(self, size: int) -> bytes:
        missing = self._start + size - len(self._buffer)
        if missing > 0:
            pieces = [self._buffer[self._start :]]
            while missing > 0:
                data = self._archive.read(max(missing, _CHUNK))
                if not data:
                    raise EOFError
                pieces.append(data)
                missing -= len(data)
            self._buffer, self._start = b"".join(pieces), 0
        return self._buffer[self._start : self._start + size]

    def _skip(self, size: int) -> None:
        self._name = None
        while (beyond := self._start + size - len(self._buffer)) > 0:
            self._buffer, self._start, size = self._archive.read(_CHUNK), 0, beyond
            if not self._buffer:
                raise EOFError
        self._start += size


def _content_size(header: bytes) -> int:
    """Give the length of what follows a header, in whole blocks."""
    size = int(header[_SIZE], 8)
    return size + -size % _BLOCK
