"""`Upkeep`: what a store is asked between builds: how full, what may go, is all well.

Every build has one and hardly any uses it: what does the work is imported when it is needed.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torana.core.cache.finding import Finding, Look
from torana.core.cache.manager import CacheManager, bump_generation
from torana.core.cache.storeroot import free_reserve, make_reserve
from torana.core.content.images import ImageStore
from torana.core.content.store import ContentStore
from torana.core.oci.digest import Digest

if TYPE_CHECKING:
    from torana.core.cache.policy import GCPolicy
    from torana.core.cache.prune import OnRecord
    from torana.core.cache.usage import UsageRecord


class Upkeep:
    """Usage, pruning and checks of one store. Calls block, some of them for long.

    `blob_roots` are asked for blobs that must stay, manifests along with what they name; `on_prune`
    are called before each pruning, for what else grows old. `checks` and `repairs` look for what
    does not fit in what others keep in the store; `repairs` are called when a process has died.
    """

    def __init__(self, manager: CacheManager, content: ContentStore, images: ImageStore) -> None:
        self._manager = manager
        self._content = content
        self._images = images
        self.blob_roots: list[Callable[[], Iterable[Digest]]] = []
        self.on_prune: list[Callable[[], object]] = []
        self.checks: list[Look] = []
        self.repairs: list[Look] = []

    def reconcile(self) -> list[Finding]:
        """Clear up after processes that have died; gives what was dropped."""
        if self._manager.is_orderly():
            return []
        from torana.core.cache.reconcile import reconcile

        return reconcile(self._manager, self._content, self.repairs)

    def disk_usage(self, filters: Sequence[str] = ()) -> list[UsageRecord]:
        """Give the records that match, newest use first.

        Raises:
            InvalidFilterError: a filter cannot be understood.
        """
        from torana.core.cache.usage import disk_usage

        return disk_usage(self._manager, filters, image_blobs=self._image_blobs())

    def prune(
        self,
        policies: Sequence[GCPolicy],
        on_record: OnRecord | None = None,
        *,
        pause_s: float = 0.0,
        is_waiting: bool = True,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> list[UsageRecord]:
        """Delete records by policies, then blobs that nothing needs, then the data itself.

        Args:
            on_record: called for each record when it is gone; may be called from any thread.
            pause_s: sleep as long after some hundreds of files, not to disturb builds.
            is_waiting: whether to wait while another process prunes; else nothing is done then.

        Raises:
            InvalidFilterError: a filter cannot be understood.
        """
        from torana.core.cache.prune import prune

        with self._alone(is_waiting) as is_alone:
            if not is_alone:
                return []
            free_reserve(self._manager.root)
            try:
                self.reconcile()
                for call in self.on_prune:
                    call()
                deleted = prune(
                    self._manager,
                    policies,
                    image_blobs=self._image_blobs(),
                    on_record=on_record,
                    is_cancelled=is_cancelled,
                )
                self._collect_blobs()
                self._manager.sweep(pause_s=pause_s)
            finally:
                make_reserve(self._manager.root)
            return deleted

    def check(self, *, is_verified: bool = False) -> list[Finding]:
        """Compare rows, data, blobs and leases; gives what does not fit.

        Args:
            is_verified: read all blobs and compare their digests.
        """
        from torana.core.cache import reconcile

        findings = reconcile.check_records(self._manager)
        findings += reconcile.check_leases(self._manager)
        findings += reconcile.missing_blobs(self._manager, self._content)
        findings += [Finding("unfinished blob", name) for name in self._content.abandoned()]
        findings += [
            Finding("image without its manifest", image.name)
            for image in self._images.all()
            if not self._content.exists(image.target.digest)
        ]
        for look in self.checks:
            findings += look()
        if is_verified:
            findings += reconcile.damaged_blobs(self._content)
        return findings

    def _image_blobs(self) -> set[str]:
        from torana.core.cache.blobs import blobs_below

        return blobs_below(self._content, (image.target.digest for image in self._images.all()))

    def _collect_blobs(self) -> None:
        from torana.core.cache.blobs import blob_times, blobs_below, collect_blobs

        before = blob_times(self._content)
        needed = self._image_blobs()
        for roots in self.blob_roots:
            needed |= blobs_below(self._content, roots())
        needed |= {digest for _, digest, _ in self._manager.records.layer_blobs()}
        if any(digest not in needed for digest in before):
            bump_generation(self._manager.root)
            collect_blobs(self._content, self._manager.database, before, needed)

    @contextmanager
    def _alone(self, is_waiting: bool) -> Iterator[bool]:
        """Be the one that prunes while entered; False when another is and we do not wait."""
        with open(self._manager.root / "locks" / "prune", "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
