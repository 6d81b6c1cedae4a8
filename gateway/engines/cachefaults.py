"""`CacheFaults`: notes that layers of imported caches turned out to be bad.

The solver takes a stored result for granted once it has it. When its layers cannot be fetched or
unpacked later, the build fails, though nothing is wrong with what is to be built: who runs it can
see so here, and run it again without imported caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import field, replace

from torana.core.cache.imagelayers import LayerProvider
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.records import dataclass
from torana.core.remotecache.backend import CacheProgress, CacheReader
from torana.core.remotecache.imported import BlobSource, FoundCache


@dataclass(slots=True)
class CacheFaults:
    """Of one build. Threads of downloads write it."""

    _failed: set[Digest] = field(default_factory=set)  # could not be fetched
    _unpacking: set[Digest] = field(default_factory=set)  # begun, and not ended

    @property
    def is_any(self) -> bool:
        """Say whether a layer failed; to be asked when the build has ended."""
        return bool(self._failed or self._unpacking)

    def fetched(self, blob: Digest, future: Future[None]) -> None:
        """Hear that fetching has ended."""
        if not future.cancelled() and future.exception() is not None:
            self._failed.add(blob)

    def unpacked(self, blob: Digest, *, done: bool) -> None:
        """Hear that a layer is being unpacked, or has been."""
        if done:
            self._unpacking.discard(blob)
        else:
            self._unpacking.add(blob)


@dataclass(frozen=True, slots=True)
class WatchedReader:
    """A `CacheReader` whose layers are watched."""

    reader: CacheReader
    faults: CacheFaults

    async def read(self, progress: CacheProgress) -> Sequence[FoundCache]:
        found = await self.reader.read(progress)
        return [replace(each, blobs=_Blobs(each.blobs, self.faults)) for each in found]


@dataclass(frozen=True, slots=True)
class _Blobs:
    blobs: BlobSource
    faults: CacheFaults

    async def check(self, blob: Descriptor) -> None:
        await self.blobs.check(blob)

    def provider(self) -> LayerProvider:
        return _Provider(self.blobs.provider(), self.faults)


@dataclass(frozen=True, slots=True)
class _Provider:
    provider: LayerProvider
    faults: CacheFaults

    def fetch(self, blob: Descriptor) -> Future[None]:
        future = self.provider.fetch(blob)
        future.add_done_callback(lambda done: self.faults.fetched(blob.digest, done))
        return future

    def extracting(self, blob: Descriptor, *, done: bool) -> None:
        self.faults.unpacked(blob.digest, done=done)
        self.provider.extracting(blob, done=done)

    def stop(self) -> None:
        self.provider.stop()
