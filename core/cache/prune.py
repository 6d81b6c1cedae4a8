"""`prune`: deletes records by policies. Builds may go on: what anybody holds is spared.

A pass without a limit on space deletes all candidates, then what has become a candidate by that. A
pass with one deletes a record at a time, the worst first, until the cache is small enough. The
worst is the one used least lately and least often: both ranks, each as a share of the number of
different values, are added.

Spec: reference of the cache, section 2.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from torana.core.cache.filters import Matcher, parse_filters
from torana.core.cache.manager import CacheManager, bump_generation
from torana.core.cache.policy import Disk, GCPolicy, keep_bytes
from torana.core.cache.ref import RecordType
from torana.core.cache.usage import UsageRecord, measured, usage_records

OnRecord = Callable[[UsageRecord], None]
_SPARED = (RecordType.INTERNAL, RecordType.FRONTEND)


def prune(
    manager: CacheManager,
    policies: Sequence[GCPolicy],
    *,
    image_blobs: Iterable[str] = (),
    on_record: OnRecord | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> list[UsageRecord]:
    """Apply the policies in order; gives what was deleted. Blocks.

    The data is out of sight then, but still on the disk: `CacheManager.sweep` deletes it.

    Raises:
        InvalidFilterError: a filter cannot be understood; nothing has been deleted.
    """
    matchers = [parse_filters(policy.filters) for policy in policies]
    manager.lease.settle()
    deleted: list[UsageRecord] = []
    for policy, matches in zip(policies, matchers, strict=True):
        for usage in _Pass(manager, policy, matches, image_blobs).delete():
            deleted.append(usage)
            if on_record is not None:
                on_record(usage)
            if is_cancelled():
                return deleted
    return deleted


class _Pass:
    """One policy at work on the records as they were when it began."""

    def __init__(
        self,
        manager: CacheManager,
        policy: GCPolicy,
        matches: Matcher,
        image_blobs: Iterable[str],
    ) -> None:
        self._manager = manager
        self._policy = policy
        self._matches = matches
        found = usage_records(manager, image_blobs)
        self._total_bytes = 0
        if policy.has_space_limit:
            found = [measured(manager, usage) for usage in found]
            self._total_bytes = sum(usage.size_bytes for usage in found if not usage.is_shared)
        self._left = {usage.id: usage for usage in found}
        self._children = Counter(parent for usage in found for parent in usage.parents)
        self._now = time.time()

    def delete(self) -> Iterator[UsageRecord]:
        keep = keep_bytes(self._policy, self._total_bytes, Disk.of(self._manager.root))
        if keep is None:
            return
        while keep == 0 or self._total_bytes >= keep:
            candidates = self._candidates()
            if keep and candidates:
                candidates = [worst(candidates)]
            if not candidates:
                return
            for usage in candidates:
                deleted = self._delete(usage)
                if deleted is not None:
                    yield deleted

    def _candidates(self) -> list[UsageRecord]:
        """Give what may go now."""
        policy = self._policy
        return [
            usage
            for usage in self._left.values()
            if not usage.is_in_use
            and not self._children[usage.id]
            and (policy.is_all or not (usage.is_shared or usage.record_type in _SPARED))
            and not (
                policy.keep_duration_s and usage.last_used > self._now - policy.keep_duration_s
            )
            and self._matches(usage.field)
        ]

    def _delete(self, usage: UsageRecord) -> UsageRecord | None:
        """Delete a record, row first; None when somebody has taken hold of it meanwhile."""
        usage = measured(self._manager, usage)
        del self._left[usage.id]
        bump_generation(self._manager.root)
        if not self._manager.remove_free(usage.id):
            return None
        self._children.subtract(usage.parents)
        if not usage.is_shared:
            self._total_bytes -= usage.size_bytes
        return replace(usage, is_in_use=False)


def worst(candidates: Sequence[UsageRecord]) -> UsageRecord:
    """Give the record that is missed least; the one that comes first where scores are equal."""
    times = {t: rank for rank, t in enumerate(sorted({u.last_used for u in candidates}), 1)}
    counts = {n: rank for rank, n in enumerate(sorted({u.usage_count for u in candidates}), 1)}

    def score(usage: UsageRecord) -> tuple[float, float, str]:
        rank = times[usage.last_used] / len(times) + counts[usage.usage_count] / len(counts)
        return rank, usage.last_used, usage.id

    return min(candidates, key=score)
