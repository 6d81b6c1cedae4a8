"""The `local` and `tar` exporters: the files of a result.

Spec: exporters reference, sections 4 and 5.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from torana.core.cache.pending import all_ready
from torana.core.errors import UnwritableError, UserError
from torana.core.pool import run_blocking
from torana.core.snapshots.changes import walk_both
from torana.core.snapshots.copytree import copy_file
from torana.core.snapshots.layertar import TarWriter
from torana.plugins.exporter import (
    ExportContext,
    ExportResult,
    Output,
    OutputTree,
    PlatformResult,
    TreeOutput,
)
from torana.plugins.exporters import attributes


class FilesExporter:
    """Writes files to a folder, or a plain tar of them."""

    def __init__(self, type: str) -> None:
        self.type = type
        self.title = f"exporting to client {'directory' if type == 'local' else 'tarball'}"

    def check(self, attrs: Mapping[str, str]) -> None:
        _mode(attrs)
        attributes.epoch(attrs, None)
        attributes.flag(attrs, "platform-split", False)

    async def export(
        self,
        result: ExportResult,
        attrs: Mapping[str, str],
        output: Output | None,
        context: ExportContext,
    ) -> Mapping[str, str]:
        if output is None:
            raise UserError(f"{self.type} exporter needs a destination", hint="add dest=PATH")
        mode = _mode(attrs)
        epoch = attributes.epoch(attrs, result.epoch)
        split = attributes.flag(attrs, "platform-split", result.is_map)
        await all_ready(part.ref for part in result.platforms)
        if self.type == "tar":
            context.progress.status("sending tarball")
            await run_blocking(_write_tar, output, result, epoch)
            context.progress.status("sending tarball", done=True)
            return {}
        if not split and len(result.platforms) > 1:
            await run_blocking(_check_apart, result)
        context.progress.status("copying files")
        if isinstance(output, TreeOutput):
            await _send(output, result, split, mode == "delete", epoch)
            context.progress.status("copying files", done=True)
            return {}
        await run_blocking(_fill_folder, output.directory(), result, split, mode == "delete", epoch)
        context.progress.status("copying files", done=True)
        return {}


def _mode(attrs: Mapping[str, str]) -> str:
    mode = attrs.get("mode", "copy")
    if mode not in ("copy", "delete"):
        raise UserError(f"invalid local exporter mode: `{mode}`", hint="copy or delete")
    return mode


def _folder_name(part: PlatformResult) -> str:
    return part.id.replace("/", "_")


async def _send(
    output: TreeOutput, result: ExportResult, split: bool, deletes: bool, epoch: int | None
) -> None:
    with ExitStack() as mounts:
        trees = [
            OutputTree(
                root=None if part.ref is None else mounts.enter_context(part.ref.mount()),
                prefix=_folder_name(part) if split else "",
                epoch=epoch,
            )
            for part in result.platforms
        ]
        await output.send_trees(trees, deletes=deletes)


def _write_tar(output: Output, result: ExportResult, epoch: int | None) -> None:
    with output.file() as file:
        writer = TarWriter(file)
        for part in result.platforms:
            prefix = b""
            if result.is_map:
                prefix = _folder_name(part).encode() + b"/"
                writer.folder(prefix, epoch or 0)
            if part.ref is None:
                continue
            with part.ref.mount() as root:
                top = os.fsencode(root)
                writer.add(walk_both(None, top), top, prefix=prefix, fixed_time=epoch)
        writer.finish()


def _fill_folder(
    target: Path, result: ExportResult, split: bool, deletes: bool, epoch: int | None
) -> None:
    try:
        _write_folder(target, result, split, deletes, epoch)
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        hint = "make room there, or name a place on another disk"
        raise UnwritableError(str(target), err, hint=hint) from err


def _write_folder(
    target: Path, result: ExportResult, split: bool, deletes: bool, epoch: int | None
) -> None:
    kept: set[bytes] = set()
    for part in result.platforms:
        into = target / _folder_name(part) if split else target
        into.mkdir(exist_ok=True)
        prefix = os.fsencode(_folder_name(part)) if split else b""
        if prefix:
            kept.add(prefix)
        if part.ref is None:
            continue
        with part.ref.mount() as root:
            for path in _copy_files(os.fsencode(root), os.fsencode(into), epoch):
                kept.add(prefix + b"/" + path if prefix else path)
    if deletes:
        _delete_others(os.fsencode(target), kept)


def _check_apart(result: ExportResult) -> None:
    """See that no two platforms have a file of the same path, before anything is written.

    Raises:
        UserError: two have.
    """
    owners: dict[bytes, str] = {}
    for part in result.platforms:
        if part.ref is None:
            continue
        with part.ref.mount() as root:
            top = os.fsencode(root)
            for change in walk_both(None, top):
                if stat.S_ISDIR(os.lstat(top + b"/" + change.path).st_mode):
                    continue
                before = owners.setdefault(change.path, part.id)
                if before != part.id:
                    raise UserError(
                        f"cannot overwrite {os.fsdecode(change.path)} from {before} with "
                        f"{part.id} when split option is disabled"
                    )


def _copy_files(source: bytes, target: bytes, epoch: int | None) -> Iterator[bytes]:
    """Copy a tree over what is there, each file by a rename; owners are the caller's own."""
    folders: list[tuple[bytes, os.stat_result]] = []
    links: dict[tuple[int, int], bytes] = {}
    for change in walk_both(None, source):
        path = change.path
        full, made = source + b"/" + path, target + b"/" + path
        status = os.lstat(full)
        kind = stat.S_IFMT(status.st_mode)
        if kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK):
            continue  # of no use to a client, and not for an ordinary user to make
        if kind == stat.S_IFDIR:
            if not os.path.isdir(made) or os.path.islink(made):
                _remove(made)
                os.mkdir(made)
            folders.append((made, status))
        else:
            _place(full, made, status, links)
            if kind != stat.S_IFLNK:
                os.chmod(made, stat.S_IMODE(status.st_mode))
            _set_time(made, status, epoch)
        yield path
    for made, status in reversed(folders):
        os.chmod(made, stat.S_IMODE(status.st_mode))
        _set_time(made, status, epoch)


def _set_time(path: bytes, status: os.stat_result, epoch: int | None) -> None:
    time_ns = status.st_mtime_ns if epoch is None else epoch * 1_000_000_000
    os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)


def _place(
    full: bytes, made: bytes, status: os.stat_result, links: dict[tuple[int, int], bytes]
) -> None:
    temporary = made + b".torana-new"
    _remove(temporary)
    kind = stat.S_IFMT(status.st_mode)
    known = links.setdefault((status.st_dev, status.st_ino), made) if status.st_nlink > 1 else made
    if known != made:
        os.link(known, temporary, follow_symlinks=False)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(full), temporary)
    elif kind == stat.S_IFIFO:
        os.mkfifo(temporary)
    else:
        copy_file(full, temporary, status)
    if os.path.isdir(made) and not os.path.islink(made):
        _remove(made)
    os.replace(temporary, made)


def _remove(path: bytes) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(path)


def _delete_others(target: bytes, kept: set[bytes]) -> None:
    others: Sequence[bytes] = [
        change.path for change in walk_both(None, target) if change.path not in kept
    ]
    for path in others:
        _remove(target + b"/" + path)
