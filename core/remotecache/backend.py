"""`CacheReader`, `CacheWriter`: what a place for exported caches gives.

Conformance: `torana.plugins.testing.caches.CacheBackendSuite`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torana.core.cache.layers import Layer, LayerForm
from torana.core.remotecache.chains import ExportedCache
from torana.core.remotecache.imported import FoundCache

MANIFEST_ANSWER = "cache.manifest"
"""What writers answer with: the descriptor of the cache's manifest, as JSON."""


class CacheProgress(Protocol):
    """Counters, output and warnings below the vertex of an import or export, on the event loop."""

    def status(
        self, id: str, *, name: str = "", current: int = 0, total: int = 0, done: bool = False
    ) -> None: ...

    def log(self, stream: int, data: bytes) -> None: ...

    def warn(self, text: str) -> None: ...


class CacheReader(Protocol):
    """One place that caches are imported from."""

    async def read(self, progress: CacheProgress) -> Sequence[FoundCache]:
        """Read what is there; layers stay there. Images for several platforms have several caches.

        Raises:
            ToranaError: it cannot be read. The build goes on without it.
        """
        ...


class CacheWriter(Protocol):
    """One place that a cache is exported to."""

    @property
    def title(self) -> str:
        """Name of the vertex: `exporting cache to registry`."""
        ...

    @property
    def form(self) -> LayerForm:
        """How layers are wanted."""
        ...

    async def write(self, cache: ExportedCache, progress: CacheProgress) -> Mapping[str, str]:
        """Write a cache; gives this writer's part of the build's response.

        Layers with a `fetch` are still elsewhere: what is there already need not come here.

        Raises:
            ToranaError: it cannot be written. What has been written has no name then.
        """
        ...


@runtime_checkable
class InlineCacheWriter(Protocol):
    """A writer of caches that go into the config of the exported image, in the image's form."""

    def member(self, cache: ExportedCache, image: Sequence[Layer]) -> tuple[str, str] | None:
        """Give name and value of the config's member; None if nothing of the cache fits.

        `image` are the layers of the image, base first.
        """
        ...


def manifest_answer(response: Mapping[str, str], number: int) -> str:
    """Give what a build answers of its export of that number, inline ones not counted.

    Empty if there is nothing: it failed and errors were to be ignored, or there was nothing to
    write. BuildKit has one answer for all exports.
    """
    are_told_apart = any(key.startswith(f"{MANIFEST_ANSWER}.") for key in response)
    return response.get(f"{MANIFEST_ANSWER}.{number}" if are_told_apart else MANIFEST_ANSWER, "")
