"""Failures of file actions, in the words of the kernel and with paths inside the root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torana.core.errors import UserError


class FileActionError(UserError):
    """A file action failed; `action_index` is its number in the op."""

    code = "FILE_ACTION_FAILED"

    def __init__(
        self, message: str, *, action_index: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.action_index = action_index


def path_error(operation: str, path: bytes | str, number: int) -> FileActionError:
    """Make the error of `operation` on `path` for an errno."""
    shown = os.fsdecode(path)
    return FileActionError(f"{operation} {shown}: {os.strerror(number).lower()}")


@contextmanager
def naming(operation: str, path: bytes | str) -> Iterator[None]:
    """Turn an OSError into a `FileActionError` about `path`."""
    try:
        yield
    except OSError as err:
        if err.errno is None:
            raise
        raise path_error(operation, path, err.errno) from err
