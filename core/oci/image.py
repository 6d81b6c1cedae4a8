"""Image manifests, indexes and configs as JSON documents.

Configs stay dictionaries: unknown members must survive a build, and an exporter sets four members
only (exporters reference, section 10). Manifests and indexes are made here in BuildKit's order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from torana.core.errors import CorruptError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.platform import Platform

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'

_HTML: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def compact_json(value: Any, *, sort: bool = False) -> bytes:
    """Give JSON without blanks, `<`, `>`, `&` and line separators escaped, as Go writes it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=sort)
    return _escape(text).encode("utf-8", "surrogateescape")


def indented_json(value: Any) -> bytes:
    """Give JSON indented by two spaces, the form of manifests and indexes."""
    text = json.dumps(value, indent=2, separators=(",", ": "), ensure_ascii=False)
    return _escape(text).encode("utf-8", "surrogateescape")


def _escape(text: str) -> str:
    for plain, escaped in _HTML.items():
        text = text.replace(plain, escaped)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def default_config(platform: Platform) -> dict[str, Any]:
    """Give the config of an image that nobody configured."""
    return {
        **platform.to_dict(),
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": {"Env": [f"PATH={DEFAULT_PATH}"], "WorkingDir": "/"},
    }


def parse_config(data: bytes) -> dict[str, Any]:
    """Read an image config.

    Raises:
        CorruptError: not a JSON object.
    """
    try:
        config = json.loads(data)
    except ValueError as err:
        raise CorruptError(f"invalid image config: {err}") from err
    if not isinstance(config, dict):
        raise CorruptError("invalid image config: not an object")
    return config


def manifest(
    config: Descriptor,
    layers: Iterable[Descriptor],
    *,
    oci: bool = True,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Give an image manifest; layers base first."""
    out: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST if oci else DOCKER_MANIFEST,
        "config": config.to_dict(),
        "layers": [layer.to_dict() for layer in layers],
    }
    if annotations:
        out["annotations"] = dict(sorted(annotations.items()))
    return indented_json(out)


def index(
    manifests: Sequence[Descriptor],
    *,
    oci: bool = True,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Give an image index (Docker: manifest list)."""
    out: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX if oci else DOCKER_INDEX,
        "manifests": [descriptor.to_dict() for descriptor in manifests],
    }
    if annotations:
        out["annotations"] = dict(sorted(annotations.items()))
    return indented_json(out)
