"""`ClientOutput`: where exporters write on this machine, never leaving half a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from torana.core.errors import UserError


class ClientOutput:
    """A path, or `-` for standard output."""

    def __init__(self, dest: str) -> None:
        self._dest = dest

    @contextmanager
    def file(self) -> Iterator[BinaryIO]:
        if self._dest == "-":
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        path = Path(self._dest)
        if path.is_dir():
            raise UserError(f"destination is a folder: `{self._dest}`", hint="name a file")
        if path.exists() and not path.is_file():
            # A device or pipe is written to as it is.
            with open(path, "wb") as file:
                yield file
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with open(temporary, "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                yield file
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def directory(self) -> Path:
        path = Path(self._dest)
        if path.exists() and not path.is_dir():
            raise UserError(f"destination is no folder: `{self._dest}`")
        path.mkdir(parents=True, exist_ok=True)
        return path
