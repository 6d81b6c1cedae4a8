"""`CopyRules`: what a copy changes in what it copies.

Spec: fileop reference, sections 8.3 to 8.5.
"""

from __future__ import annotations

import os
import stat

from torana.core.ops.file.modes import ModeChange
from torana.core.ops.file.owner import Owner
from torana.core.ops.file.reuse import Look
from torana.core.patterns import PatternMatcher
from torana.core.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRules:
    """What changes on the way; None and -1 keep what the source has.

    `is_local` is for folders of the client: entries belong to 0:0 and sockets become empty files.
    """

    mode: int | None = None
    mode_change: ModeChange | None = None
    owner: Owner | None = None
    timestamp: int = -1  # ns since the epoch
    replace: bool = False
    include: PatternMatcher | None = None
    exclude: PatternMatcher | None = None
    is_local: bool = False

    def owner_of(self, status: os.stat_result) -> Owner:
        """Give the owner of the copy of an entry."""
        if self.owner is not None:
            return self.owner
        return (0, 0) if self.is_local else (status.st_uid, status.st_gid)

    def mode_of(self, status: os.stat_result) -> int:
        """Give the permission bits of the copy of an entry."""
        mode = stat.S_IMODE(status.st_mode)
        if self.mode_change is not None:
            is_dir = stat.S_ISDIR(status.st_mode)
            return self.mode_change.apply(mode, is_dir=is_dir)
        return mode if self.mode is None else self.mode

    def times_of(self, status: os.stat_result) -> tuple[int, int]:
        """Give access and modification time of the copy of an entry, in ns since the epoch."""
        if self.timestamp >= 0:
            return self.timestamp, self.timestamp
        return status.st_atime_ns, status.st_mtime_ns

    def look(self, status: os.stat_result) -> Look:
        """Give how the copy of a regular file looks."""
        return Look(self.mode_of(status), self.owner_of(status), self.times_of(status)[1])
