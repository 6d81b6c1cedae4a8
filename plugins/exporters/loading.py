"""Bringing images from OCI layouts into the store, bytes and digests as they are.

Spec: OCI image specification, Image Layout.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Final

from torana.core.content.imagetree import image_blobs
from torana.core.content.store import ContentStore
from torana.core.errors import CorruptError, NotFoundError, UserError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.plugins.exporters.layoutfiles import FULL_NAME, TAG, NamedImage

_BLOB: Final = re.compile(r"(?:\./)?blobs/sha256/([0-9a-f]{64})")
_CHUNK: Final = 1 << 20
_MAX_INDEX: Final = 4 << 20  # bytes


class InvalidLayoutError(UserError):
    """What is to be loaded is no OCI layout, or lacks something."""

    code = "LAYOUT_INVALID"


def load_folder(folder: Path, content: ContentStore) -> list[NamedImage]:
    """Take the images of a layout folder. Blocks.

    Raises:
        InvalidLayoutError: it is none.
        CorruptError: a blob is not what its name says.
    """
    index = folder / "index.json"
    if not index.is_file():
        raise InvalidLayoutError(f"no OCI layout: `{folder}`")
    for path in sorted((folder / "blobs/sha256").glob("*")):
        if re.fullmatch(r"[0-9a-f]{64}", path.name):
            with open(path, "rb") as file:
                _take(file, Digest(f"sha256:{path.name}"), content)
    return _images(index.read_bytes(), str(folder), content)


def load_archive(file: BinaryIO, shown: str, content: ContentStore) -> list[NamedImage]:
    """Take the images of a layout in a tar, which may be compressed. Blocks.

    Raises:
        InvalidLayoutError: it is none.
        CorruptError: a blob is not what its name says.
    """
    index: bytes | None = None
    with _opened(file, shown) as archive:
        for member in archive:
            data = archive.extractfile(member) if member.isfile() else None
            if data is None:
                continue
            if match := _BLOB.fullmatch(member.name):
                _take(data, Digest(f"sha256:{match[1]}"), content)
            elif member.name.removeprefix("./") == "index.json":
                index = data.read(_MAX_INDEX)
    if index is None:
        raise InvalidLayoutError(
            f"no OCI layout: `{shown}`",
            hint="`skopeo copy docker-archive:FILE oci-archive:FILE` makes one of an old archive",
        )
    return _images(index, shown, content)


@contextmanager
def _opened(file: BinaryIO, shown: str) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(fileobj=file, mode="r|*") as archive:
            yield archive
    except (tarfile.TarError, EOFError) as err:
        raise InvalidLayoutError(f"no OCI layout: `{shown}`: {err}") from err


def _take(file: IO[bytes], digest: Digest, content: ContentStore) -> None:
    if content.use(digest):
        return
    with content.writer() as writer:
        while chunk := file.read(_CHUNK):
            writer.write(chunk)
        writer.commit(digest)


def _images(index: bytes, shown: str, content: ContentStore) -> list[NamedImage]:
    """Read the index; what it names is all here when this returns."""
    try:
        entries = [Descriptor.from_dict(entry) for entry in json.loads(index)["manifests"]]
    except (ValueError, KeyError, TypeError, InvalidDigestError) as err:
        raise InvalidLayoutError(f"no OCI layout: `{shown}`: index.json: {err}") from None
    found = []
    for entry in entries:
        try:
            missing = [b for b in image_blobs(content, entry) if not content.exists(b.digest)]
        except NotFoundError as err:
            raise InvalidLayoutError(f"{shown}: incomplete: {err.message}") from None
        if missing:
            raise InvalidLayoutError(f"{shown}: incomplete: blob not found: {missing[0].digest}")
        found.append(NamedImage(entry, _names(entry)))
    if not found:
        raise CorruptError(f"{shown}: no image in it")
    return found


def _names(entry: Descriptor) -> Sequence[str]:
    """Give the full name that an entry has, if any; a tag alone is none."""
    name = entry.annotations.get(FULL_NAME) or entry.annotations.get(TAG, "")
    if not name or not any(mark in name for mark in "/:"):
        return ()
    try:
        return (str(parse_reference(name).with_default_tag()),)
    except InvalidReferenceError:
        return ()
