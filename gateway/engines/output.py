"""`ClientOutput`: where exporters write on this machine, never leaving half a file."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from torana.core.errors import UnwritableError, UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_HINTS = {
    errno.ENOSPC: "make room there, or name a place on another disk",
    errno.ENOENT: "make the folder first, or name another place",
    errno.EROFS: "name a place that can be written to",
}
_OTHER_HINT = "name a place that you may write to"


class ClientOutput:
    """A path, or `-` for standard output."""

    def __init__(self, dest: str) -> None:
        self._dest = dest

    @contextmanager
    def file(self, answer: Mapping[str, str] | None = None) -> Iterator[BinaryIO]:
        """Open the file.

        Raises:
            UnwritableError: it cannot be made, or written to.
        """
        if self._dest == "-":
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        path = Path(self._dest)
        if path.is_dir():
            raise UserError(f"destination is a folder: `{self._dest}`", hint="name a file")
        with whole_file(path) as file:
            yield file

    def directory(self) -> Path:
        """Give the folder, made if missing.

        Raises:
            UnwritableError: it cannot be made.
        """
        path = Path(self._dest)
        if path.exists() and not path.is_dir():
            raise UserError(f"destination is no folder: `{self._dest}`")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise _unwritable(path, err) from err
        return path


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears at `path` when all of it is written; devices are written directly.

    Raises:
        UnwritableError: it cannot be made, or written to.
    """
    if path.exists() and not path.is_file():
        with _open(path, path) as file:
            yield file
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    file = _open(temporary, path)
    try:
        with file:
            os.fchmod(file.fileno(), 0o644)
            yield file
        try:
            os.replace(temporary, path)
        except OSError as err:
            raise _unwritable(path, err) from err
    finally:
        temporary.unlink(missing_ok=True)


class _Raw(io.FileIO):
    """A file whose failures tell the name that the user gave."""

    def __init__(self, opened: Path, named: Path) -> None:
        self._named = named
        super().__init__(opened, "wb")

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as err:
            raise _unwritable(self._named, err) from err


def _open(opened: Path, named: Path) -> BinaryIO:
    try:
        return cast("BinaryIO", io.BufferedWriter(_Raw(opened, named)))
    except OSError as err:
        raise _unwritable(named, err) from err


def _unwritable(path: Path, error: OSError) -> UnwritableError:
    assert error.errno is not None
    return UnwritableError(str(path), error, hint=_HINTS.get(error.errno, _OTHER_HINT))
