"""`LayoutStore`: an OCI layout folder of the client. Blocking.

Spec: OCI image layout.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from torana.core.errors import CorruptError, NotFoundError, UnsupportedError, UserError
from torana.core.oci.digest import Digest
from torana.core.oci.reference import parse_reference

_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_NAME: Final = "io.containerd.image.name"
_TAG: Final = "org.opencontainers.image.ref.name"
_LATEST: Final = "latest"
_DOCUMENT_LIMIT: Final = 64 << 20  # bytes; larger ones are layers
_ALGORITHMS: Final = frozenset({"sha256", "sha384", "sha512"})


class LayoutStore:
    """A layout; `is_writable` ones are made on first use."""

    def __init__(self, root: Path, *, is_writable: bool = False) -> None:
        self._root = root
        self._is_writable = is_writable

    def size(self, digest: Digest) -> int:
        """Give the size of a blob.

        Raises:
            NotFoundError: there is none.
        """
        try:
            return self._path(digest).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"content {digest}: not found") from None

    def read(self, digest: Digest, offset: int, size: int) -> bytes:
        """Read part of a blob.

        Raises:
            NotFoundError: there is none.
        """
        try:
            with open(self._path(digest), "rb", buffering=0) as file:
                file.seek(offset)
                return file.read(size)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"content {digest}: not found") from None

    def blobs(self) -> Iterator[tuple[Digest, int]]:
        """Give all blobs with their sizes."""
        for algorithm in sorted(_ALGORITHMS):
            folder = self._root / "blobs" / algorithm
            if folder.is_dir():
                for path in sorted(folder.iterdir()):
                    with suppress(UserError, FileNotFoundError):
                        yield Digest.parse(f"{algorithm}:{path.name}"), path.stat().st_size

    def write(self, expected: Digest | None) -> Writing:
        """Begin a blob.

        Raises:
            UnsupportedError: the layout is only read.
        """
        if not self._is_writable:
            raise UnsupportedError("this content store is read-only")
        return Writing(self, expected)

    def make(self) -> Path:
        """Make the layout if it is not there; gives the folder for new files."""
        folder = self._root / "blobs" / "sha256"
        folder.mkdir(parents=True, exist_ok=True)
        marker = self._root / "oci-layout"
        if not marker.exists():
            marker.write_text('{"imageLayoutVersion":"1.0.0"}')
        return self._root / "blobs"

    def add_image(self, descriptor: Mapping[str, Any], names: Sequence[str]) -> None:
        """Note an image in `index.json` under names, which it takes from other images.

        Without names it becomes `latest`.
        """
        self.make()
        index = self._index()
        for name in names or [""]:
            tag = (parse_reference(name).tag if name else None) or _LATEST
            said = {**(descriptor.get("annotations") or {}), _TAG: tag}
            if name:
                said[_NAME] = name
            entry = {**descriptor, "annotations": dict(sorted(said.items()))}
            wanted = said.get(_NAME), tag
            index["manifests"] = [
                *(old for old in index["manifests"] if _named(old) != wanted),
                entry,
            ]
        self._write_index(index)

    def _write_index(self, index: Mapping[str, Any]) -> None:
        temporary = self._root / f".index.json.{os.getpid()}.part"
        temporary.write_text(json.dumps(index, separators=(",", ":"), ensure_ascii=False))
        os.replace(temporary, self._root / "index.json")

    def tagged(self, tag: str) -> Mapping[str, Any] | None:
        """Give the entry of `index.json` that has a tag, None if there is none.

        Raises:
            UserError: there is no index that could be read.
        """
        for entry in self._index()["manifests"]:
            if isinstance(entry, dict) and _named(entry)[1] == tag:
                return entry
        return None

    def set_tag(self, descriptor: Mapping[str, Any], tag: str) -> None:
        """Let a manifest have a tag, and nothing else."""
        self.make()
        index = self._index()
        said = {**(descriptor.get("annotations") or {}), _TAG: tag}
        others = [entry for entry in index["manifests"] if _named(entry)[1] != tag]
        self._write_index({**index, "manifests": [*others, {**descriptor, "annotations": said}]})

    def keep_named(self) -> None:
        """Remove blobs that no manifest in `index.json` needs."""
        needed: set[str] = set()
        pending = [entry.get("digest") for entry in self._index()["manifests"]]
        while pending:
            digest = pending.pop()
            if not isinstance(digest, str) or digest in needed:
                continue
            needed.add(digest)
            pending += self._named_by(digest)
        for digest, _ in self.blobs():
            if digest not in needed:
                self._path(digest).unlink(missing_ok=True)

    def _named_by(self, digest: str) -> Iterator[Any]:
        """Give the digests in a manifest or index; nothing for other blobs."""
        try:
            path = self._path(Digest.parse(digest))
            if path.stat().st_size > _DOCUMENT_LIMIT:
                return
            document = json.loads(path.read_bytes())
            entries = [*(document.get("manifests") or ()), *(document.get("layers") or ())]
            yield from (entry.get("digest") for entry in [*entries, document.get("config") or {}])
        except (OSError, ValueError, TypeError, AttributeError, RecursionError, UserError):
            return

    def _index(self) -> dict[str, Any]:
        """Read `index.json`; a new one where there is none."""
        path = self._root / "index.json"
        new = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": []}
        try:
            found = json.loads(path.read_bytes())
            if not isinstance(found["manifests"], list):
                raise TypeError
        except FileNotFoundError:
            return new
        except (ValueError, KeyError, TypeError):
            raise UserError(f"no index of an OCI layout: `{path}`") from None
        return {**new, **found}

    def place(self, temporary: str, digest: Digest) -> None:
        """Give a whole file its name."""
        path = self._path(digest)
        path.parent.mkdir(exist_ok=True)
        os.replace(temporary, path)

    def _path(self, digest: Digest) -> Path:
        algorithm, _, encoded = digest.partition(":")
        if algorithm not in _ALGORITHMS:
            raise UserError(f"unsupported digest: `{digest}`")
        return self._root / "blobs" / algorithm / encoded


def _named(entry: Any) -> tuple[str | None, str | None]:
    said = entry.get("annotations") or {}
    return said.get(_NAME), said.get(_TAG)


class Writing:
    """A blob that is being written. `total` 0: unknown size."""

    def __init__(self, store: LayoutStore, expected: Digest | None) -> None:
        self._store = store
        self.expected = expected
        self.total = 0
        self.offset = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._name = ""

    def add(self, data: bytes) -> None:
        if self.total and self.offset + len(data) > self.total:
            raise UserError(f"blob is longer than the {self.total} bytes that were announced")
        self._opened().write(data)
        self._hash.update(data)
        self.offset += len(data)

    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def commit(self) -> None:
        """Check the blob and give it its name.

        Raises:
            CorruptError: its size or digest is not what was announced.
        """
        if self.total and self.offset != self.total:
            raise CorruptError(f"blob has {self.offset} bytes, expected {self.total}")
        if self.expected is not None and self.expected != self.digest():
            raise CorruptError(f"blob has digest {self.digest()}, expected {self.expected}")
        file = self._opened()
        os.fchmod(file.fileno(), 0o444)
        file.close()
        self._store.place(self._name, self.digest())
        self._name = ""

    def close(self) -> None:
        """Remove what is not committed."""
        if self._file is not None:
            self._file.close()
        if self._name:
            with suppress(FileNotFoundError):
                os.unlink(self._name)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            folder = self._store.make()
            descriptor, self._name = tempfile.mkstemp(prefix=".torana-", dir=folder)
            self._file = os.fdopen(descriptor, "wb")
        return self._file
