"""`ImageOrigin`: where images come from; a registry is one, a folder in the OCI layout another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

from torana.core.content.store import ContentStore
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.reference import ImageReference

OCTETS: Final = "application/octet-stream"
OnBytes = Callable[[int], None]
"""Takes the number of bytes of a blob that are here."""


class ImageOrigin(Protocol):
    """Asked on behalf of one caller, until its `stop` is set. Calls block."""

    stop: threading.Event

    def resolve(self, reference: ImageReference) -> Descriptor:
        """Find what a reference stands for. Its size may not be known (0).

        Raises:
            ToranaError: it stands for nothing, or there is no way to find out.
        """
        ...

    def manifest(self, reference: ImageReference, digest: Digest) -> tuple[str, bytes]:
        """Give a manifest or index, checked, with its media type.

        Raises:
            ToranaError: it cannot be had, or is not what the digest names.
        """
        ...

    def find_blob(self, reference: ImageReference, digest: Digest) -> Descriptor:
        """Find out how large a blob is; its type is not known.

        Raises:
            ToranaError: it is not there, or there is no way to find out.
        """
        ...

    def fetch(
        self,
        reference: ImageReference,
        blob: Descriptor,
        content: ContentStore,
        on_bytes: OnBytes = ...,
    ) -> None:
        """Bring a blob into the store, checked, unless it is there.

        Raises:
            ToranaError: it cannot be had, or is not what the descriptor says.
            StoppedError: `stop` was set.
        """
        ...


OpenOrigin = Callable[[threading.Event], ImageOrigin]
