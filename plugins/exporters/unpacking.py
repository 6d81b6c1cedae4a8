"""Unpacking a committed image, so that builds upon it find its files at hand.

Spec: exporters reference, section 2, `unpack`.
"""

from __future__ import annotations

import time
from concurrent.futures import Future

from torana.core.cache.imagelayers import ImageLayer
from torana.core.errors import NotFoundError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.platform import best_match
from torana.plugins.exporter import ExportContext, Progress
from torana.plugins.exporters.committing import CommittedImage


async def unpack_image(image: CommittedImage, context: ExportContext) -> None:
    """Unpack the layers for the platform of this worker; nothing if there is none."""
    best = best_match(context.platform, [part.platform for part in image.platforms])
    if best is None:
        return
    status = f"unpacking {image.root.digest}"
    context.progress.status(status)
    ref = await context.image_layers.ref(
        [
            ImageLayer(blob=layer.descriptor, diff_id=layer.diff_id)
            for layer in image.platforms[best].layers
        ],
        _Here(context.progress),
        description=f"unpacked from {image.root.digest}",
        created=time.time(),
    )
    if ref is not None:
        try:
            await ref.ready()
        finally:
            await ref.release()
    context.progress.status(status, done=True)


class _Here:
    """A `LayerProvider` of blobs that have just been committed."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def fetch(self, blob: Descriptor) -> Future[None]:
        missing: Future[None] = Future()
        missing.set_exception(NotFoundError(f"blob not found: {blob.digest}"))
        return missing

    def extracting(self, blob: Descriptor, *, done: bool) -> None:
        """Say nothing: it is one step to the user."""

    def stop(self) -> None:
        """Do nothing: nothing is being fetched."""
