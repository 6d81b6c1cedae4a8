"""`GCPolicy`: a rule of garbage collection, and the rules that hold where none are given.

Spec: reference of the daemon, section 6; of the cache, section 2.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

from torana.core.cache.ref import RecordType
from torana.core.quantities import Size
from torana.core.records import dataclass

_GB: Final = 1_000_000_000
_DAY_S: Final = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GCPolicy:
    """What one pass may delete, and how much it is to leave; 0 means no such limit."""

    filters: tuple[str, ...] = ()
    is_all: bool = False  # also internal, frontend and shared records
    keep_duration_s: float = 0.0
    reserved_bytes: int = 0  # never go below this
    max_used_bytes: int = 0
    min_free_bytes: int = 0

    @property
    def has_space_limit(self) -> bool:
        return bool(self.reserved_bytes or self.max_used_bytes or self.min_free_bytes)


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that holds a store."""

    total_bytes: int  # 0 if unknown
    free_bytes: int

    @classmethod
    def of(cls, path: Path) -> Disk:
        status = os.statvfs(path)
        return cls(status.f_frsize * status.f_blocks, status.f_frsize * status.f_bfree)


class Rule(Protocol):
    """A rule as configurations have it: sizes may be shares of the disk, None is no limit."""

    @property
    def all(self) -> bool: ...
    @property
    def filters(self) -> Sequence[str]: ...
    @property
    def keep_duration_s(self) -> float: ...
    @property
    def reserved(self) -> Size | None: ...
    @property
    def max_used(self) -> Size | None: ...
    @property
    def min_free(self) -> Size | None: ...


def policies_of(rules: Iterable[Rule], disk: Disk) -> tuple[GCPolicy, ...]:
    """Give rules of a configuration as policies for a disk."""
    return tuple(
        GCPolicy(
            filters=tuple(rule.filters),
            is_all=rule.all,
            keep_duration_s=rule.keep_duration_s,
            reserved_bytes=_bytes(rule.reserved, disk),
            max_used_bytes=_bytes(rule.max_used, disk),
            min_free_bytes=_bytes(rule.min_free, disk),
        )
        for rule in rules
    )


def default_policies(
    disk: Disk,
    *,
    reserved: Size | None = None,
    max_used: Size | None = None,
    min_free: Size | None = None,
) -> tuple[GCPolicy, ...]:
    """Give the rules where none are configured.

    Any limit that is given replaces all three automatic ones, which depend on the disk.
    """
    if reserved or max_used or min_free:
        reserved_bytes, max_used_bytes = _bytes(reserved, disk), _bytes(max_used, disk)
        min_free_bytes = _bytes(min_free, disk)
    else:
        reserved_bytes = min(_bytes(Size(percent=10), disk), 10 * _GB)
        max_used_bytes = min(_bytes(Size(percent=80), disk), 100 * _GB)
        min_free_bytes = _bytes(Size(percent=20), disk)

    def capped(*, keep_duration_s: float = 0.0, is_all: bool = False) -> GCPolicy:
        return GCPolicy(
            is_all=is_all,
            keep_duration_s=keep_duration_s,
            reserved_bytes=reserved_bytes,
            max_used_bytes=max_used_bytes,
            min_free_bytes=min_free_bytes,
        )

    # What is made again most easily goes first.
    easy = (RecordType.LOCAL, RecordType.CACHE_MOUNT, RecordType.GIT_CHECKOUT)
    return (
        GCPolicy(
            filters=tuple(f"type=={kind.value}" for kind in easy),
            keep_duration_s=2 * _DAY_S,
            max_used_bytes=512_000_000,
        ),
        capped(keep_duration_s=60 * _DAY_S),
        capped(),
        capped(is_all=True),
    )


def _bytes(size: Size | None, disk: Disk) -> int:
    return 0 if size is None else size.on(disk.total_bytes)


def keep_bytes(policy: GCPolicy, total_bytes: int, disk: Disk) -> int | None:
    """Give the size above which the cache is too big: 0 to delete everything, None for nothing."""
    if not policy.has_space_limit:
        return 0
    keep = policy.max_used_bytes
    shortfall = policy.min_free_bytes - disk.free_bytes
    if policy.min_free_bytes and shortfall > 0:
        keep = min(keep or total_bytes, total_bytes - shortfall)
    elif policy.min_free_bytes and not keep:
        return None
    return max(keep, policy.reserved_bytes)


def may_matter(
    policies: Sequence[GCPolicy], used_bytes: int, oldest_use: float | None, disk: Disk
) -> bool:
    """Say whether a pass could delete anything, given bounds that are cheap to have.

    Args:
        used_bytes: the cache takes at most this.
        oldest_use: when its record that was not used for longest was used, in seconds since the
            epoch; None when there is none.
    """
    if oldest_use is None:
        return False
    for policy in policies:
        keep = keep_bytes(policy, used_bytes, disk)
        is_old = oldest_use <= time.time() - policy.keep_duration_s
        if keep is not None and used_bytes >= keep and is_old:
            return True
    return False
