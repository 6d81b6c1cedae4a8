"""The `image` exporter: keeps the image in Torana's store, and pushes it.

Spec: exporters reference, section 2.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping

from torana.plugins.exporter import ExportContext, ExportResult, Output
from torana.plugins.exporters import attributes
from torana.plugins.exporters.committing import (
    CommittedImage,
    ImageOptions,
    commit_image,
    descriptor_json,
)


class ImageExporter:
    """Commits the image, names it in the store, pushes it."""

    type = "image"
    title = "exporting to image"

    async def export(
        self,
        result: ExportResult,
        attrs: Mapping[str, str],
        output: Output | None,
        context: ExportContext,
    ) -> Mapping[str, str]:
        push: Callable[[CommittedImage], Awaitable[None]] | None = None
        if attributes.flag(attrs, "push", False):
            from torana.plugins.exporters.pushing import push_to

            push = push_to(
                attributes.names(attrs),
                context,
                by_digest=attributes.flag(attrs, "push-by-digest", False),
                insecure=attributes.flag(attrs, "registry.insecure", False),
            )
        names = attributes.normalized_names(attrs)
        options = ImageOptions(
            compression=attributes.compression(attrs),
            oci_types=attributes.flag(attrs, "oci-mediatypes", True),
            epoch=attributes.epoch(attrs, result.epoch),
            rewrites_times=attributes.flag(attrs, "rewrite-timestamp", False),
        )
        image = await commit_image(result, options, context)
        if attributes.flag(attrs, "store", True):
            for name in names:
                context.images.set(name, image.root)
                context.progress.status(f"naming to {name}", done=True)
        if push is not None:
            await push(image)
        response = {
            "containerimage.digest": str(image.root.digest),
            "containerimage.descriptor": base64.b64encode(
                descriptor_json(image.root).encode()
            ).decode(),
        }
        if image.config_digest is not None:
            response["containerimage.config.digest"] = str(image.config_digest)
        if names:
            response["image.name"] = ",".join(names)
        return response
