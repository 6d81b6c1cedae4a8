"""The source of OCI layouts: `oci-layout://NAME@DIGEST` from folders of this machine.

Spec: reference of sources, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torana.core.errors import NotFoundError
from torana.core.oci.platform import host_platform
from torana.core.oci.reference import parse_reference
from torana.core.ops.source import InvalidSourceError, SourceRequest, SourceServices
from torana.plugins.registry.images import ResolveMode
from torana.plugins.registry.layout import LayoutOrigin
from torana.plugins.sources.image import ImageInstance, layer_limit


class LayoutNotOfferedError(NotFoundError):
    """The client has no layout of that name."""

    code = "LAYOUT_NOT_OFFERED"


class LayoutSource:
    """Serves `oci-layout://` from `layouts`, folders by the name of their store."""

    schemes = ("oci-layout",)

    def __init__(self, layouts: Mapping[str, Path]) -> None:
        self._layouts = layouts

    def open(self, request: SourceRequest, services: SourceServices) -> ImageInstance:
        reference = parse_reference(request.rest)
        if reference.digest is None:
            raise InvalidSourceError(f"oci-layout reference has no digest: `{request.rest}`")
        store = request.attrs.get("oci.store") or request.rest.partition("@")[0]
        folder = self._layouts.get(store)
        if folder is None:
            raise LayoutNotOfferedError(f"no OCI layout is called `{store}`")
        return ImageInstance(
            partial(LayoutOrigin, folder),
            services,
            reference=reference,
            platform=request.platform or host_platform(),
            mode=ResolveMode.PULL,
            limit=layer_limit(request.attrs.get("oci.layerlimit", "")),
            is_registry=False,
        )
