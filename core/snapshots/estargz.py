"""`EstargzWriter`: lets a tar pass and compresses it as eStargz, of which files can be read alone.

Each file, and each 4 MiB of a large one, begins a gzip member of its own. The table of contents
comes last, as a tar of its own behind the end of the layer's, and a footer says where it is. Other
readers see an ordinary `tar+gzip`.

Spec: stargz-snapshotter, docs/estargz.md; exporters reference, section 9.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Final

from torana.core.content.compression import DEFAULT_LEVEL, Sink, gzip_member
from torana.core.errors import CorruptError, UnsupportedError
from torana.core.oci.digest import Digest
from torana.core.snapshots.layertar import tar_header
from torana.core.snapshots.tarstream import (
    BLOCK,
    CHARACTER,
    FIFO,
    FOLDER,
    LINK,
    REGULAR,
    SYMLINK,
    Entry,
    extend,
    parse_header,
    pax_records,
)

TOC_ANNOTATION: Final = "containerd.io/snapshot/stargz/toc.digest"
SIZE_ANNOTATION: Final = "io.containers.estargz.uncompressed-size"

_BLOCK: Final = 512
_CHUNK: Final = 4 << 20  # bytes of a file in one member
_MAX_EXTENSION: Final = 1 << 20  # bytes
_TOC_NAME: Final = "stargz.index.json"
_KINDS: Final = {
    REGULAR: "reg",
    LINK: "hardlink",
    SYMLINK: "symlink",
    CHARACTER: "char",
    BLOCK: "block",
    FOLDER: "dir",
    FIFO: "fifo",
}
_EXTENSIONS: Final = (b"x", b"g", b"L", b"K")


class EstargzWriter:
    """Takes the bytes of a tar in pieces of any size; `finish` must come last."""

    def __init__(self, sink: Sink, level: int | None) -> None:
        self._sink = sink
        self._compress = gzip_member(DEFAULT_LEVEL if level is None else level)
        self._offset = 0  # of the member that is being filled
        self._member = bytearray()
        self._hash = hashlib.sha256()
        self._size = 0  # of everything, plain
        self._header = bytearray()
        self._wanted = _BLOCK  # bytes of a header, of an extension with its records
        self._common: dict[bytes, bytes] = {}
        self._records: dict[bytes, bytes] = {}
        self._entries: list[dict[str, Any]] = []
        self._left = 0  # data of the current file
        self._padding = 0
        self._dropping = 0  # bytes of an entry that is not taken over
        self._file: dict[str, Any] = {}
        self._file_hash = hashlib.sha256()
        self._chunk: dict[str, Any] = {}
        self._chunk_hash = hashlib.sha256()
        self._chunk_left = 0
        self._is_over = False  # the end of the archive was there; zeros may follow
        self._is_past = False  # something else did

    def write(self, data: bytes) -> int:
        """Take a piece; what comes behind the end of the archive is left out.

        Raises:
            CorruptError: it is no tar.
            UnsupportedError: it has a sparse file.
        """
        view = memoryview(data)
        while view:
            if self._left:
                view = view[self._take_data(view[: self._chunk_left]) :]
            elif self._padding or self._dropping:
                count = min(len(view), self._padding or self._dropping)
                if self._padding:
                    self._padding -= count
                    self._append(view[:count])
                else:
                    self._dropping -= count
                view = view[count:]
            else:
                count = min(len(view), self._wanted - len(self._header))
                self._header += view[:count]
                view = view[count:]
                if len(self._header) == self._wanted:
                    self._take_header()
        return len(data)

    def finish(self) -> tuple[Digest, dict[str, str]]:
        """Write the table and the footer; gives the digest of all plain bytes, and annotations.

        Raises:
            CorruptError: the archive has no end.
        """
        if self._left or self._padding or self._dropping or self._header:
            raise CorruptError("archive is damaged: unexpected end of data")
        self._end_member()
        table = json.dumps({"version": 1, "entries": self._entries}, indent="\t").encode()
        header = tar_header(_TOC_NAME.encode(), REGULAR, mode=0, size=len(table))
        self._append(header + table + bytes(-len(table) % _BLOCK + 2 * _BLOCK))
        at = self._offset
        self._end_member()
        self._sink.write(_footer(at))
        return Digest(f"sha256:{self._hash.hexdigest()}"), {
            TOC_ANNOTATION: str(Digest.of(table)),
            SIZE_ANNOTATION: str(self._size),
        }

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        self._hash.update(data)
        self._size += len(data)
        self._member += data
        if len(self._member) > 2 * _CHUNK:  # many headers without a file
            self._end_member()

    def _end_member(self) -> None:
        if self._member:
            packed = self._compress(self._member)
            self._sink.write(packed)
            self._offset += len(packed)
            self._member = bytearray()

    def _take_header(self) -> None:
        block = bytes(self._header[:_BLOCK])
        if self._is_over or not any(block):
            self._is_over = True
            self._is_past = self._is_past or any(block)
            if not self._is_past:
                self._append(block)
            self._header.clear()
            return
        entry = parse_header(block)
        if entry.kind in _EXTENSIONS:
            self._take_extension(entry)
            return
        if self._records or self._common:
            extend(entry, {**self._common, **self._records})
        if entry.kind in (b"\0", b"7"):
            is_old_folder = entry.kind == b"\0" and entry.name.endswith(b"/")
            entry.kind = FOLDER if is_old_folder else REGULAR
        if entry.pieces is not None or entry.kind not in _KINDS:
            raise UnsupportedError(
                f"eStargz has no entries of this kind: `{entry.name.decode(errors='replace')}`",
                hint="use another compression for this image",
            )
        self._begin(entry)
        self._records = {}

    def _take_extension(self, entry: Entry) -> None:
        if entry.stored > _MAX_EXTENSION:
            raise CorruptError(f"archive has an extended header of {entry.stored} bytes")
        whole = _BLOCK + entry.stored + -entry.stored % _BLOCK
        if len(self._header) < whole:
            self._wanted = whole
            return
        body = bytes(self._header[_BLOCK : _BLOCK + entry.stored])
        if entry.kind == b"x":
            self._records |= pax_records(body)
        elif entry.kind == b"g":
            self._common |= pax_records(body)
        else:
            key = b"path" if entry.kind == b"L" else b"linkpath"
            self._records[key] = body.split(b"\0", 1)[0]
        self._append(self._header)
        self._header.clear()
        self._wanted = _BLOCK

    def _begin(self, entry: Entry) -> None:
        size = entry.stored if entry.kind == REGULAR else 0
        name = entry.name.decode("utf-8", "replace")
        if name.removeprefix("./").strip("/") == _TOC_NAME:  # of an earlier eStargz
            self._dropping = size + -size % _BLOCK
            self._header.clear()
            return
        self._append(self._header)
        self._header.clear()
        self._file = _described(entry, name)
        if entry.kind == REGULAR:
            self._file_hash = hashlib.sha256()
            self._file["digest"] = f"sha256:{self._file_hash.hexdigest()}"
        self._left, self._padding = size, -size % _BLOCK
        if size:
            self._begin_chunk(self._file, 0)
        else:
            self._entries.append(self._file)

    def _begin_chunk(self, entry: dict[str, Any], at: int) -> None:
        self._end_member()
        entry["offset"] = self._offset
        if at:
            entry["chunkOffset"] = at
        if self._left >= _CHUNK:
            entry["chunkSize"] = _CHUNK
        self._entries.append(entry)
        self._chunk = entry
        self._chunk_hash = hashlib.sha256()
        self._chunk_left = min(self._left, _CHUNK)

    def _take_data(self, data: memoryview) -> int:
        self._append(data)
        self._file_hash.update(data)
        self._chunk_hash.update(data)
        self._left -= len(data)
        self._chunk_left -= len(data)
        if not self._chunk_left:
            self._chunk["chunkDigest"] = f"sha256:{self._chunk_hash.hexdigest()}"
            if self._left:
                at = self._file["size"] - self._left
                self._begin_chunk({"name": self._file["name"], "type": "chunk"}, at)
            else:
                self._file["digest"] = f"sha256:{self._file_hash.hexdigest()}"
        return len(data)


def _described(entry: Entry, name: str) -> dict[str, Any]:
    """Give an entry of the table; what is zero or empty is left out."""
    seconds = entry.mtime_ns // 1_000_000_000
    major, minor = entry.device
    found: dict[str, Any] = {
        "name": name,
        "type": _KINDS[entry.kind],
        "size": entry.size if entry.kind == REGULAR else 0,
        "modtime": _time(seconds) if seconds else "",
        "linkName": entry.linkname.decode("utf-8", "replace")
        if entry.kind in (LINK, SYMLINK)
        else "",
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "devMajor": major,
        "devMinor": minor,
        "xattrs": {
            key: base64.b64encode(value).decode() for key, value in sorted(entry.xattrs.items())
        },
    }
    return {key: value for key, value in found.items() if value}


def _time(seconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _footer(toc_offset: int) -> bytes:
    """Give an empty gzip member whose extra field says where the table is: 51 bytes."""
    field = b"%016xSTARGZ" % toc_offset
    extra = b"SG" + len(field).to_bytes(2, "little") + field
    header = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + len(extra).to_bytes(2, "little") + extra
    return header + b"\x01\0\0\xff\xff" + bytes(8)
