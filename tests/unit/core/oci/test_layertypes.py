"""Types of layers, from one family to the other and back."""

from __future__ import annotations

import pytest

from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.layertypes import (
    distributable,
    docker_layer,
    is_foreign,
    is_layer,
    layer_compression,
    oci_layer,
)

OCI = "application/vnd.oci.image.layer"
DOCKER = "application/vnd.docker.image.rootfs"


@pytest.mark.parametrize(
    ("oci", "docker", "compression"),
    [
        (f"{OCI}.v1.tar", f"{DOCKER}.diff.tar", "uncompressed"),
        (f"{OCI}.v1.tar+gzip", f"{DOCKER}.diff.tar.gzip", "gzip"),
        (f"{OCI}.v1.tar+zstd", f"{DOCKER}.diff.tar.zstd", "zstd"),
        (f"{OCI}.nondistributable.v1.tar", f"{DOCKER}.foreign.diff.tar", "uncompressed"),
        (f"{OCI}.nondistributable.v1.tar+gzip", f"{DOCKER}.foreign.diff.tar.gzip", "gzip"),
    ],
)
def test_families(oci: str, docker: str, compression: str) -> None:
    assert (docker_layer(oci), oci_layer(docker)) == (docker, oci)
    assert (docker_layer(docker), oci_layer(oci)) == (docker, oci)
    assert layer_compression(oci) == layer_compression(docker) == compression
    assert is_layer(oci) and is_layer(docker)
    assert is_foreign(oci) is is_foreign(docker) is ("foreign" in docker)
    blob = Descriptor(media_type=docker, digest=Digest.of(b""), size=0, urls=("http://x",))
    changed = distributable(blob)
    if "foreign" in docker:
        assert changed.media_type == oci.replace(".nondistributable", "")
        assert not changed.urls
    else:
        assert changed is blob


def test_other_types() -> None:
    assert docker_layer("text/plain") == oci_layer("text/plain") == "text/plain"
    assert not is_layer("text/plain")
