"""`Copier`: copies entries and whole trees between open directories.

Speed is in the number of system calls: a small file costs about a dozen, all relative to the two
directories that are open anyway. Trees are walked with a stack, so depth is bounded by open files
alone. A directory that patterns do not name is made when something in it turns out to be copied.

Spec: fileop reference, sections 8.3 to 8.5, 10 and 11.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from torana.core.ops.file.copyrules import CopyRules
from torana.core.ops.file.errors import FileActionError, path_error
from torana.core.ops.file.owner import Owner
from torana.core.ops.file.reuse import Reuse
from torana.core.ops.file.root import OPEN_FOLDER, open_regular, remove
from torana.core.patterns import State
from torana.core.snapshots.copytree import copy_data

_SMALL: Final = 64 << 10  # bytes: below, reading and writing beats asking for shared blocks
_READ_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OVERLAY: Final = ("trusted.overlay.", "user.overlay.")


class _Frame:
    """A directory being copied; `target` is None until something needs it."""

    __slots__ = (
        "entries", "exclude_state", "existed", "include_state", "made_owner", "name", "path",
        "source", "status", "target",
    )  # fmt: skip

    def __init__(self, name: str, path: str, source: int, status: os.stat_result) -> None:
        self.name = name
        self.path = path  # relative to the top of the copy, for patterns
        self.source = source
        self.status = status
        with os.scandir(source) as found:
            # Popped from the end; the type comes with the listing and saves a call per file.
            self.entries = sorted(
                ((entry.name, entry.is_file(follow_symlinks=False)) for entry in found),
                reverse=True,
            )
        self.target: int | None = None
        self.existed = False
        self.include_state: State | None = None
        self.exclude_state: State | None = None
        self.made_owner: Owner | None = None  # what a file made here belongs to, once one was


class Copier:
    """One copy of one source; hard links within it are kept. `shown` is its target, for errors."""

    def __init__(
        self, rules: CopyRules, target_root: int, shown: bytes, *, reuse: Reuse | None = None
    ) -> None:
        self._rules = rules
        self._target_root = target_root
        self._reuse = None if rules.include or rules.exclude else reuse
        self._origin = b""
        self._shown = os.fsdecode(shown).rstrip("/")
        self._links: dict[tuple[int, int], str] = {}
        self._has_xattrs = True
        self._stack: list[_Frame] = []
        self._current = ""
        self._literals = rules.include.literals() if rules.include else None

    def copy(
        self,
        source: int,
        name: str,
        target: int,
        into: str,
        *,
        origin: bytes = b"",
        is_new: bool = False,
    ) -> None:
        """Copy entry `name` of directory `source` to entry `into` of directory `target`.

        An empty name stands for the directory itself. `origin` is the source's path, and `is_new`
        says that the target is a directory which was just made.

        Raises:
            FileActionError: it cannot be done; what was copied until then stays.
        """
        self._origin = origin
        try:
            status = os.lstat(name or ".", dir_fd=source)
            if stat.S_ISDIR(status.st_mode):
                self._tree(source, name, target, into, is_new=is_new)
            else:
                self._entry(source, name, status, target, into)
        except OSError as err:
            if err.errno is None:
                raise
            raise path_error("copy", self._shown + self._current, err.errno) from err
        finally:
            for frame in self._stack:
                self._close(frame)

    # Directories

    def _tree(self, above: int, name: str, target: int, into: str, *, is_new: bool) -> None:
        top = self._open(above, name, "")
        self._stack.append(top)
        top.existed, top.target = self._make_folder(target, into)
        if is_new or not top.existed:
            self._take_unchanged(top)
        while self._stack:
            frame = self._stack[-1]
            if frame.entries:
                self._child(frame, *frame.entries.pop())
            else:
                self._finish(frame, is_top=len(self._stack) == 1)
                self._close(self._stack.pop())

    def _open(self, above: int, name: str, path: str) -> _Frame:
        source = os.open(name or ".", _READ_FOLDER, dir_fd=above)
        try:
            return _Frame(name, path, source, os.fstat(source))
        except BaseException:
            os.close(source)
            raise

    @staticmethod
    def _close(frame: _Frame) -> None:
        os.close(frame.source)
        if frame.target is not None:
            os.close(frame.target)

    def _child(self, frame: _Frame, name: str, is_regular: bool) -> None:
        path = f"{frame.path}/{name}" if frame.path else name
        self._current = "/" + path
        rules = self._rules
        included, include_state, exclude_state = True, None, None
        if rules.include is not None:
            included, include_state = rules.include.matches_below(path, frame.include_state)
        if rules.exclude is not None:
            excluded, exclude_state = rules.exclude.matches_below(path, frame.exclude_state)
            included = included and not excluded
        if is_regular:
            if included:
                target = frame.target
                target = self._materialise() if target is None else target
                self._regular(frame.source, name, target, name, path, frame)
            return
        status = os.lstat(name, dir_fd=frame.source)
        if not stat.S_ISDIR(status.st_mode):
            if included:
                self._entry(frame.source, name, status, self._materialise(), name, path)
            return
        if not included and not self._may_hold(path, include_state, exclude_state):
            return
        child = self._open(frame.source, name, path)
        child.include_state, child.exclude_state = include_state, exclude_state
        self._stack.append(child)
        if included:
            self._materialise()
            if not child.existed:
                self._take_unchanged(child)

    def _take_unchanged(self, frame: _Frame) -> None:
        """Leave out the files of a new directory that come from an earlier copy."""
        if self._reuse is None:
            return
        source = self._origin + os.fsencode("/" + frame.path if frame.path else "")
        taken = self._reuse.plan(source, self._target_path(frame), self._rules.look)
        if taken:
            names = frozenset(map(os.fsdecode, taken))
            frame.entries = [entry for entry in frame.entries if entry[0] not in names]

    def _target_path(self, frame: _Frame) -> bytes:
        return os.fsencode(f"{self._shown}/{frame.path}" if frame.path else self._shown)

    def _may_hold(self, path: str, include: State | None, exclude: State | None) -> bool:
        """Say whether something below a directory that is not copied itself might be."""
        rules = self._rules
        if rules.exclude is not None and exclude is not None:
            # Below an excluded directory everything is excluded, unless a `!` brings it back.
            if not rules.exclude.has_exclusions and any(exclude):
                return False
        if self._literals is not None and not any(include or ()):
            start = path + "/"
            return any(literal.startswith(start) for literal in self._literals)
        return True

    def _materialise(self) -> int:
        """Make the directories of the stack that are not there yet, and give the last one."""
        known = len(self._stack)
        while self._stack[known - 1].target is None:
            known -= 1
        target = self._stack[known - 1].target
        for frame in self._stack[known:]:
            assert target is not None
            frame.existed, frame.target = self._make_folder(target, frame.name)
            target = frame.target
        assert target is not None
        return target

    def _make_folder(self, above: int, name: str) -> tuple[bool, int]:
        """Open or make a directory; says whether it existed."""
        if not name:
            return True, os.open(".", OPEN_FOLDER, dir_fd=above)
        existed = False
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            existed = stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode)
            if not existed:
                if not self._rules.replace:
                    shown = self._shown + self._current
                    raise FileActionError(f"cannot copy to non-directory: {shown}") from None
                remove(above, name)
                os.mkdir(name, 0o700, dir_fd=above)
        return existed, os.open(name, OPEN_FOLDER, dir_fd=above)

    def _finish(self, frame: _Frame, *, is_top: bool) -> None:
        """Give a directory its metadata, after its content; the mode may lock us out."""
        target = frame.target
        if target is None:
            return
        status = frame.status
        self._current = "/" + frame.path if frame.path else ""
        if not (is_top and frame.existed):
            os.chown(".", *self._rules.owner_of(status), dir_fd=target)
            self._xattrs(f"/proc/self/fd/{frame.source}", f"/proc/self/fd/{target}", follow=True)
            os.utime(".", ns=self._rules.times_of(status), dir_fd=target)
            os.chmod(".", self._rules.mode_of(status), dir_fd=target)
        else:
            os.utime(".", ns=self._rules.times_of(status), dir_fd=target)
        if self._reuse is not None:
            self._reuse.finish(self._target_path(frame), self._rules.times_of(status))

    # Everything else

    def _entry(
        self,
        source: int,
        name: str,
        status: os.stat_result,
        target: int,
        into: str,
        path: str = "",
    ) -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self._regular(source, name, target, into, path)
            return
        if status.st_nlink > 1 and self._link(status, target, into, path):
            return
        if kind == stat.S_IFLNK:
            text = os.readlink(name, dir_fd=source)
            self._fresh(target, into, lambda: os.symlink(text, into, dir_fd=target))
            self._entry_metadata(source, name, status, target, into)
        elif kind == stat.S_IFSOCK and self._rules.is_local:
            os.close(self._create(target, into))
            self._entry_metadata(source, name, status, target, into)
        else:
            made = kind | 0o600
            self._fresh(target, into, lambda: os.mknod(into, made, status.st_rdev, dir_fd=target))
            self._entry_metadata(source, name, status, target, into)

    def _link(self, status: os.stat_result, target: int, into: str, path: str) -> bool:
        """Link to an earlier copy of the same file; False when this is the first."""
        known = self._links.setdefault((status.st_dev, status.st_ino), path)
        if known == path:
            return False
        top = self._stack[0].target
        assert top is not None
        self._fresh(
            target,
            into,
            lambda: os.link(known, into, src_dir_fd=top, dst_dir_fd=target, follow_symlinks=False),
        )
        return True

    def _regular(
        self,
        source: int,
        name: str,
        target: int,
        into: str,
        path: str,
        frame: _Frame | None = None,
    ) -> None:
        reader, status = open_regular(source, name)
        try:
            if status.st_nlink > 1 and self._link(status, target, into, path):
                return
            writer = self._create(target, into)
            try:
                self._data(reader, writer, status)
                owner = self._rules.owner_of(status)
                if frame is None or frame.made_owner != owner:
                    if frame is not None and frame.made_owner is None:
                        made = os.fstat(writer)
                        frame.made_owner = made.st_uid, made.st_gid
                    os.fchown(writer, *owner)
                if self._has_xattrs:
                    self._xattrs(reader, writer)
                os.fchmod(writer, self._rules.mode_of(status))
                os.utime(writer, ns=self._rules.times_of(status))
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    @staticmethod
    def _data(reader: int, writer: int, status: os.stat_result) -> None:
        size = status.st_size
        if size > _SMALL:
            copy_data(reader, writer, size, sparse=status.st_blocks * 512 < size)
            return
        while size:
            data = os.read(reader, _SMALL)
            written = os.write(writer, data) if data else 0
            while written < len(data):
                written += os.write(writer, data[written:])
            if len(data) < _SMALL:
                return

    def _create(self, target: int, name: str) -> int:
        try:
            return os.open(name, _CREATE, 0o600, dir_fd=target)
        except FileExistsError:
            self._make_room(target, name)
            return os.open(name, _CREATE, 0o600, dir_fd=target)

    def _fresh(self, target: int, name: str, make: object) -> None:
        assert callable(make)
        try:
            make()
        except FileExistsError:
            self._make_room(target, name)
            make()

    def _make_room(self, target: int, name: str) -> None:
        """Remove what is in the way of something that is no directory."""
        is_folder = stat.S_ISDIR(os.lstat(name, dir_fd=target).st_mode)
        if is_folder and not self._rules.replace:
            shown = self._shown + self._current
            raise FileActionError(f"cannot replace to directory {shown} with file")
        remove(target, name)

    def _entry_metadata(
        self, source: int, name: str, status: os.stat_result, target: int, into: str
    ) -> None:
        os.chown(into, *self._rules.owner_of(status), dir_fd=target, follow_symlinks=False)
        if self._has_xattrs:
            ends = f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{into}"
            self._xattrs(*ends, follow=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(into, self._rules.mode_of(status), dir_fd=target)
        os.utime(into, ns=self._rules.times_of(status), dir_fd=target, follow_symlinks=False)

    # Metadata

    def _xattrs(self, source: int | str, target: int | str, *, follow: bool = True) -> None:
        """Copy extended attributes as far as both sides and our rights allow."""
        try:
            names = os.listxattr(source, follow_symlinks=follow)
        except OSError as err:
            if err.errno == errno.ENOTSUP and isinstance(source, int):
                self._has_xattrs = False
            return
        for name in names:
            if name.startswith(_OVERLAY):
                continue
            try:
                value = os.getxattr(source, name, follow_symlinks=follow)
                os.setxattr(target, name, value, follow_symlinks=follow)
            except OSError:
                continue
