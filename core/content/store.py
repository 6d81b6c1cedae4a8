"""`ContentStore`: blobs by digest, under `<root>/content`.

A blob is written to `ingest/<name>`, hashed on the way, and renamed to `blobs/sha256/<hex>` when
whole, so that a reader never sees half of one. The ingest file is locked while it is written: what
nobody locks was left by a process that died.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from torana.core.content.durability import sync_files
from torana.core.errors import CorruptError, NotFoundError
from torana.core.faults import fault_point
from torana.core.oci.digest import Digest

_CHUNK: Final = 1 << 20


def _locked_file(folder: Path) -> tuple[Path, BinaryIO]:
    """Make a new file and lock it, again if `reconcile` took it for abandoned in between."""
    while True:
        path = folder / secrets.token_hex(12)
        file = open(path, "xb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        if os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()


class BlobWriter:
    """Takes the bytes of one blob; a context manager that throws them away unless committed."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._path, self._file = _locked_file(store.ingest)  # closed by commit or abort
        self._hash = hashlib.sha256()
        self.size = 0  # bytes so far

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        self._hash.update(view)
        self.size += size
        while view:
            view = view[self._file.write(view) :]
        return size

    def commit(self, expected: Digest | None = None, expected_size: int | None = None) -> Digest:
        """Make the blob part of the store and give its digest.

        Raises:
            CorruptError: the bytes are not those that were expected.
        """
        digest = Digest("sha256:" + self._hash.hexdigest())
        if expected_size is not None and expected_size != self.size:
            self.abort()
            raise CorruptError(f"blob has {self.size} bytes, expected {expected_size}: {digest}")
        if expected is not None and expected != digest:
            self.abort()
            raise CorruptError(f"blob has digest {digest}, expected {expected}")
        self._file.flush()
        os.chmod(self._path, 0o444)
        self._store.use(digest)
        fault_point("blob.commit")
        os.rename(self._path, self._store.path(digest))
        self._file.close()
        self._store.unsynced.add(digest.encoded)  # again: one sync may have passed meanwhile
        return digest

    def abort(self) -> None:
        """Throw away what was written; after `commit` it does nothing."""
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *args: object) -> None:
        self.abort()


class ContentStore:
    """Blobs of one root, shared by all its processes. Calls block.

    `on_use` is told of a blob before it is used or made, and keeps it from being collected.
    """

    def __init__(self, root: Path, on_use: Callable[[Digest], None] | None = None) -> None:
        self.root = root
        self._on_use = on_use
        # Names of blobs that may not be on the disk yet: made here, or by others a moment ago.
        self.unsynced: set[str] = set()
        self.blobs = root / "blobs" / "sha256"
        self.ingest = root / "ingest"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.ingest.mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        """Give where the blob lies or would lie."""
        return self.blobs / digest.encoded

    def use(self, digest: Digest) -> bool:
        """Say whether the blob is here, and keep it from being collected during this build."""
        if self._on_use is not None:
            self._on_use(digest)
        self.unsynced.add(digest.encoded)
        try:
            os.utime(self.path(digest))  # tells a collection that runs of the use
        except FileNotFoundError:
            return False
        return True

    def writer(self) -> BlobWriter:
        """Begin a blob."""
        return BlobWriter(self)

    def add(self, data: bytes) -> Digest:
        """Store small content."""
        digest = Digest.of(data)
        if self.use(digest):
            return digest
        with self.writer() as writer:
            writer.write(data)
            return writer.commit(digest)

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading.

        Raises:
            NotFoundError: it is not here.
        """
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise NotFoundError(f"blob not found: {digest}") from None

    def read(self, digest: Digest) -> bytes:
        """Read a blob and check it.

        Raises:
            NotFoundError: it is not here.
            CorruptError: its bytes have changed.
        """
        with self.open(digest) as file:
            data = file.read()
        if Digest.of(data) != digest:
            raise CorruptError(f"blob is damaged: {digest}", hint="`torana debug check-store`")
        return data

    def exists(self, digest: Digest) -> bool:
        return os.path.exists(self.path(digest))

    def size(self, digest: Digest) -> int:
        """Give the size in bytes.

        Raises:
            NotFoundError: it is not here.
        """
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise NotFoundError(f"blob not found: {digest}") from None

    def digests(self) -> Iterator[Digest]:
        """Give all blobs."""
        for name in os.listdir(self.blobs):
            yield Digest(f"sha256:{name}")

    def delete(self, digest: Digest) -> None:
        """Remove a blob; missing is no error."""
        self.path(digest).unlink(missing_ok=True)

    def verify(self, digest: Digest) -> bool:
        """Say whether the blob's bytes are still what its name says."""
        found = hashlib.sha256()
        with self.open(digest) as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
        return found.hexdigest() == digest.encoded

    def sync(self) -> None:
        """Bring all blobs made or used so far to the disk; before rows naming them are written."""
        names = set(self.unsynced)
        sync_files(self.blobs, names)
        self.unsynced -= names

    def abandoned(self) -> list[str]:
        """Give the names of files that writers have left that died."""
        return [name for name in os.listdir(self.ingest) if self._if_abandoned(name, _keep)]

    def reconcile(self) -> list[str]:
        """Remove what writers that died have left; gives their names."""
        return [name for name in os.listdir(self.ingest) if self._if_abandoned(name, Path.unlink)]

    def _if_abandoned(self, name: str, act: Callable[[Path], None]) -> bool:
        path = self.ingest / name
        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                act(path)
        except (BlockingIOError, FileNotFoundError):
            return False  # being written, or just committed
        return True


def _keep(path: Path) -> None:
    """Leave it where it is, if it still is there."""
    path.lstat()
