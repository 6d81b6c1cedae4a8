"""The `image` exporter: keeps the image in Torana's store.

Spec: exporters reference, section 2.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from torana.core.errors import UnsupportedError
from torana.plugins.exporter import ExportContext, ExportResult, Output
from torana.plugins.exporters import attributes
from torana.plugins.exporters.committing import ImageOptions, commit_image, descriptor_json


class ImageExporter:
    """Commits the image and names it in the store."""

    type = "image"
    title = "exporting to image"

    async def export(
        self,
        result: ExportResult,
        attrs: Mapping[str, str],
        output: Output | None,
        context: ExportContext,
    ) -> Mapping[str, str]:
        if attributes.flag(attrs, "push", False):
            raise UnsupportedError(
                "this version cannot push images",
                hint="use -o type=oci,dest=FILE and push it with skopeo",
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
