"""The copy action: what is copied, and where it goes.

Spec: fileop reference, section 8.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from torana.core.llb.ops import Copy
from torana.core.ops.file.actions import make_folders
from torana.core.ops.file.copier import Copier
from torana.core.ops.file.copyrules import CopyRules
from torana.core.ops.file.errors import FileActionError, naming, path_error
from torana.core.ops.file.matches import resolve_wildcard
from torana.core.ops.file.modes import PERMISSIONS, parse_mode
from torana.core.ops.file.owner import Owner
from torana.core.ops.file.reuse import Reuse
from torana.core.ops.file.root import Place, Root, clean, components
from torana.core.patterns import PatternMatcher


def copy(
    action: Copy,
    source: Root,
    target: Root,
    owner: Owner | None,
    *,
    is_local: bool = False,
    reuse: Reuse | None = None,
) -> None:
    """Copy what `action` names from `source` to `target`.

    Files that `reuse` takes from an earlier copy are missing in the target until they are linked.

    Raises:
        FileActionError: a source is missing, or something is in the way.
        UserError: a malformed pattern or mode.
    """
    _Copy(action, source, target, owner, is_local=is_local, reuse=reuse).run()


class _Copy:
    """One copy action under way."""

    def __init__(
        self,
        action: Copy,
        source: Root,
        target: Root,
        owner: Owner | None,
        *,
        is_local: bool,
        reuse: Reuse | None,
    ) -> None:
        self.action = action
        self.source = source
        self.target = target
        self.owner = owner
        self.reuse = reuse
        self.rules = CopyRules(
            mode=None if action.mode == -1 else action.mode & PERMISSIONS,
            mode_change=parse_mode(action.mode_str) if action.mode_str else None,
            owner=owner,
            timestamp=action.timestamp,
            replace=action.always_replace_existing,
            include=_matcher(action.include_patterns),
            exclude=_matcher(action.exclude_patterns),
            is_local=is_local,
        )
        self.made: list[bytes] = []  # created parents, whose times are set again at the end

    def run(self) -> None:
        if not self.action.create_dest_path:
            self._check_parent()
        sources = self._sources()
        if not sources:
            if self.action.allow_empty_wildcard:
                return
            raise FileActionError(f"{self.action.src} not found")
        for path in sources:
            if self.action.attempt_unpack and self._unpack(path):
                continue
            self._copy(path)
        self._settle_times()

    def _check_parent(self) -> None:
        parent = os.path.dirname(clean(self.action.dest))
        with self.target.find(parent) as place:
            if place.lstat() is None:
                raise path_error("failed to stat", self.action.dest, errno.ENOENT)

    def _sources(self) -> Sequence[bytes]:
        if self.action.allow_wildcard:
            return resolve_wildcard(
                self.source, self.action.src, follow_links=self.action.follow_symlink
            )
        return [clean(self.action.src)]

    def _unpack(self, path: bytes) -> bool:
        with self.source.find(path) as place:
            if len(place.tail) != 1:
                return False
            from torana.core.ops.file.unpack import unpack  # few builds extract archives

            return unpack(place, lambda: self._folder(clean(self.action.dest), 0o755), self.owner)

    def _copy(self, path: bytes) -> None:
        with self.source.find(path, follow_last=self.action.follow_symlink) as place:
            status = place.lstat()
            if status is None:
                raise path_error("lstat", path, errno.ENOENT)
            is_folder = stat.S_ISDIR(status.st_mode)
            with self._destination(path, is_folder=is_folder) as spot:
                if len(spot.tail) > 1:
                    raise path_error("open", spot.path, errno.ENOENT)
                copier = Copier(self.rules, self.target.fd, spot.path, reuse=self.reuse)
                copier.copy(
                    place.folder,
                    _name(place),
                    spot.folder,
                    _name(spot),
                    origin=place.path,
                    is_new=spot.path in self.made,
                )

    def _destination(self, path: bytes, *, is_folder: bool) -> Place:
        """Find where one source goes, making the directories above."""
        dest = clean(self.action.dest)
        if _ends_with_slash(self.action.dest):
            self._folder(dest).close()
        else:
            self._folder(os.path.dirname(dest)).close()
        place = self.target.find(dest)
        try:
            status = place.lstat()
            merges = is_folder and self.action.dir_copy_contents
            exists = status is not None
            if merges and not exists:
                place.close()
                return self._folder(dest)
            if exists and not merges and (is_folder or not place.tail):
                if place.tail:
                    raise path_error("mkdir", place.path, errno.ENOTDIR)
                place.tail = self._base(path)
            elif len(place.tail) > 1:
                # A link that led to something missing: what it names is made, too.
                name = place.tail[-1]
                self._make(place, place.tail[:-1])
                place.tail = (name,)
            return place
        except BaseException:
            place.close()
            raise

    def _base(self, path: bytes) -> tuple[bytes, ...]:
        """Give the last element of a source as it was written; `.` and the root have no name."""
        if not self.action.allow_wildcard and self.action.src.endswith("/."):
            return ()
        return tuple(components(path)[-1:])

    def _folder(self, path: bytes, mode: int | None = None) -> Place:
        """Open a directory of the target, made with its parents where missing."""
        place = self.target.find(path)
        try:
            if place.tail and place.lstat() is not None:
                raise path_error("mkdir", path, errno.ENOTDIR)
            self._make(place, place.tail, mode)
        except BaseException:
            place.close()
            raise
        return place

    def _make(self, place: Place, names: Sequence[bytes], mode: int | None = None) -> None:
        if not names:
            return
        if mode is None:
            has_mode = self.rules.mode is not None and self.rules.mode_change is None
            mode = self.rules.mode if has_mode else 0o755
        assert mode is not None
        first = place.parts
        make_folders(place, names, mode, self.owner, self.action.timestamp)
        for count in range(1, len(names) + 1):
            self.made.append(b"/" + b"/".join((*first, *names[:count])))

    def _settle_times(self) -> None:
        if self.action.timestamp < 0:
            return
        times = (self.action.timestamp, self.action.timestamp)
        for path in self.made:
            with self.target.find(path) as place, naming("chtimes", path):
                if not place.tail:
                    os.utime(".", ns=times, dir_fd=place.folder)


def _matcher(patterns: Sequence[str]) -> PatternMatcher | None:
    return PatternMatcher(patterns) if patterns else None


def _ends_with_slash(path: str) -> bool:
    """Say whether a destination names a directory by its form alone."""
    return not path or path.rpartition("/")[2] in ("", ".")


def _name(place: Place) -> str:
    return os.fsdecode(place.tail[0]) if place.tail else ""
