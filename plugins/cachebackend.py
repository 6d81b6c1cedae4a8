"""The `CacheBackend` protocol: a kind of place that build caches go to and come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from torana.core.content.store import ContentStore
from torana.core.errors import ToranaError, UsageError
from torana.core.oci.descriptor import Descriptor
from torana.core.records import dataclass
from torana.core.remotecache.backend import CacheReader, CacheWriter, InlineCacheWriter

if TYPE_CHECKING:
    from torana.plugins.registry.access import RegistryAccess
    from torana.plugins.registry.origin import OpenOrigin


class CacheOptionError(UsageError):
    """An attribute of `--cache-from` or `--cache-to` is missing or wrong."""

    code = "CACHE_OPTION_INVALID"


class CacheExportError(ToranaError):
    """A place does not take a cache."""

    code = "CACHE_EXPORT_FAILED"


class ClientLayouts(Protocol):
    """Folders of the build's client, in the OCI layout."""

    @property
    def is_lasting(self) -> bool:
        """Say whether they are there as long as this process."""
        ...

    def origin(self, folder: str) -> OpenOrigin:
        """Give what reads a folder.

        Raises:
            ToranaError: the client is not connected.
        """
        ...

    async def put(self, folder: str, blob: Descriptor, content: ContentStore) -> None:
        """Bring a blob into a folder, unless it is there. The client writes `index.json`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheContext:
    """What the engine lends to cache backends."""

    content: ContentStore
    layouts: ClientLayouts
    registries: RegistryAccess | None = (
        None  # as the build's client has them; None: as this process
    )


class CacheBackend(Protocol):
    """A kind of place, `type=...`. Both calls only check attributes: they must not block."""

    type: str

    def reader(self, attrs: Mapping[str, str], context: CacheContext) -> CacheReader:
        """Give what reads a cache (`--cache-from`).

        Raises:
            UserError: an attribute is wrong; told as a warning.
        """
        ...

    def writer(
        self, attrs: Mapping[str, str], context: CacheContext
    ) -> CacheWriter | InlineCacheWriter:
        """Give what writes a cache (`--cache-to`). `mode` and `ignore-error` are not its business.

        Raises:
            UserError: an attribute is wrong; the build fails at once.
        """
        ...
