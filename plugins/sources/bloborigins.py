"""`BlobOrigins`: where single blobs come from, by the scheme that names them.

Spec: reference of sources, section 4.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Final

from torana.core.content.store import ContentStore
from torana.core.oci.digest import Digest
from torana.core.oci.reference import ImageReference
from torana.core.ops.source import InvalidSourceError
from torana.core.records import dataclass
from torana.plugins.registry.access import RegistryAccess, default_access
from torana.plugins.registry.client import RegistryClient
from torana.plugins.registry.origin import OpenOrigin
from torana.plugins.registry.threads import run_network
from torana.plugins.sources.layout import FindLayout, LayoutNotOfferedError

REGISTRY_BLOB: Final = "docker-image+blob"
LAYOUT_BLOB: Final = "oci-layout+blob"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobOrigins:
    """Registries and layouts; without `access` registries as the user has set them up."""

    access: RegistryAccess | None = None
    find_layout: FindLayout | None = None

    def open(self, scheme: str, *, store: str = "", session_id: str = "") -> OpenOrigin:
        """Give the origin for one of the two schemes; layouts are found by store and session.

        Raises:
            InvalidSourceError: no store is named, but a layout is wanted.
            LayoutNotOfferedError: there are no layouts.
        """
        if scheme == REGISTRY_BLOB:
            return partial(RegistryClient, self.access or default_access())
        if not store:
            raise InvalidSourceError("oci-layout blob source requires store id")
        if self.find_layout is None:
            raise LayoutNotOfferedError(f"no OCI layout is called `{store}`")
        return self.find_layout(store, session_id)


async def fetch_blob(
    open_origin: OpenOrigin, reference: ImageReference, digest: Digest, content: ContentStore
) -> None:
    """Bring a blob into the store, checked, unless it is there.

    Raises:
        ToranaError: it cannot be had, or is not what the digest says.
    """
    stop = threading.Event()

    def fetch() -> None:
        if content.use(digest):
            return
        origin = open_origin(stop)
        origin.fetch(reference, origin.find_blob(reference, digest), content)

    await run_network(stop, fetch)
