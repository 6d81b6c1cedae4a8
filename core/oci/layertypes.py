"""Media types of layers: OCI's and Docker's names for the same things, and what they say.

Spec: OCI image specification, Image Layer; exporters reference, section 9.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from torana.core.oci.descriptor import Descriptor
from torana.core.oci.image import DOCKER_LAYER, OCI_LAYER

_OCI_FOREIGN: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_DOCKER_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"
SOURCE_ANNOTATION: Final = "containerd.io/distribution.source."  # and a host: its repository
_SUFFIXES: Final = ("", "gzip", "zstd")
_COMPRESSIONS: Final = {"": "uncompressed", "gzip": "gzip", "zstd": "zstd"}


def _names(oci: str, docker: str) -> list[tuple[str, str]]:
    return [(f"{oci}+{s}".rstrip("+"), f"{docker}.{s}".rstrip(".")) for s in _SUFFIXES]


_PAIRS: Final = [*_names(OCI_LAYER, DOCKER_LAYER), *_names(_OCI_FOREIGN, _DOCKER_FOREIGN)]
_TO_OCI: Final = {docker: oci for oci, docker in _PAIRS}
_TO_DOCKER: Final = {oci: docker for oci, docker in _PAIRS}


def is_layer(media_type: str) -> bool:
    """Say whether blobs of this type are layers that can be unpacked."""
    return media_type in _TO_OCI or media_type in _TO_DOCKER


def oci_layer(media_type: str) -> str:
    """Give OCI's name of a layer's type; others stay."""
    return _TO_OCI.get(media_type, media_type)


def docker_layer(media_type: str) -> str:
    """Give Docker's name of a layer's type; others stay."""
    return _TO_DOCKER.get(media_type, media_type)


def layer_compression(media_type: str) -> str:
    """Give `gzip`, `zstd` or `uncompressed`."""
    return _COMPRESSIONS[oci_layer(media_type).partition("+")[2]]


def is_foreign(media_type: str) -> bool:
    """Say whether layers of this type may not be pushed."""
    return oci_layer(media_type).startswith(_OCI_FOREIGN)


def distributable(layer: Descriptor) -> Descriptor:
    """Give a layer as one that may be pushed, without addresses elsewhere."""
    if not is_foreign(layer.media_type):
        return layer
    plain = oci_layer(layer.media_type).replace(_OCI_FOREIGN, OCI_LAYER)
    return replace(layer, media_type=plain, urls=())
