"""The manifest of an exported cache: layers and config, as an image or as an index of blobs.

Spec: the cache reference, section 5, Manifests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from torana.core.cache.imagelayers import ImageLayer
from torana.core.cache.layers import Layer
from torana.core.errors import UserError
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.layertypes import SOURCE_ANNOTATION, docker_layer, oci_layer
from torana.core.records import dataclass
from torana.core.remotecache.config import CONFIG_TYPE, read_time, time_text

UNCOMPRESSED: Final = "containerd.io/uncompressed"
CREATED: Final = "buildkit/createdat"
DESCRIPTION: Final = "buildkit/description"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestForm:
    """How the manifest of a cache is written."""

    is_image: bool = True  # an image manifest, not an index of blobs
    oci_types: bool = True

    def __post_init__(self) -> None:
        if self.is_image and not self.oci_types:
            raise UserError(
                "invalid configuration for remote cache, OCI mediatypes are required for "
                "image-manifest cache format"
            )

    @property
    def media_type(self) -> str:
        if self.is_image:
            return oci.OCI_MANIFEST
        return oci.OCI_INDEX if self.oci_types else oci.DOCKER_INDEX

    def to_json(self, layers: Sequence[Layer], config: Descriptor) -> bytes:
        """Give the document."""
        named = [described(layer) for layer in layers]
        if not self.oci_types:
            named = [replace(each, media_type=docker_layer(each.media_type)) for each in named]
        out: dict[str, Any] = {"schemaVersion": 2, "mediaType": self.media_type}
        blobs = [each.to_dict() for each in named]
        if self.is_image:
            out |= {"config": config.to_dict(), "layers": blobs}
        else:
            out["manifests"] = [*blobs, config.to_dict()]
        return oci.compact_json(out)


def config_descriptor(data: bytes) -> Descriptor:
    """Describe the document of a config."""
    return Descriptor(media_type=CONFIG_TYPE, digest=Digest.of(data), size=len(data))


def described(layer: Layer) -> Descriptor:
    """Give a layer's descriptor with all that an import needs to know of it."""
    said = {
        key: value
        for key, value in layer.descriptor.annotations.items()
        if not key.startswith(SOURCE_ANNOTATION)
    }
    said[UNCOMPRESSED] = layer.diff_id
    said[CREATED] = time_text(layer.created)
    if layer.description:
        said[DESCRIPTION] = layer.description
    return replace(layer.descriptor, annotations=said, platform=None)


def image_layer(blob: Descriptor) -> ImageLayer | None:
    """Read a layer from its descriptor; None if that does not say what is in it."""
    said = dict(blob.annotations)
    try:
        diff_id = Digest.parse(said.pop(UNCOMPRESSED))
        created = read_time(said[CREATED]) if CREATED in said else None
    except (KeyError, ValueError, InvalidDigestError):
        return None
    said.pop(CREATED, None)
    description = said.pop(DESCRIPTION, "")
    named = replace(blob, media_type=oci_layer(blob.media_type), annotations=said)
    return ImageLayer(blob=named, diff_id=diff_id, description=description, created=created)
