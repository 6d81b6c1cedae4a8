"""The source of OCI layouts: `oci-layout://NAME@DIGEST` from what a build's client offers.

Spec: reference of sources, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torana.core.errors import NotFoundError
from torana.core.oci.platform import host_platform
from torana.core.oci.reference import parse_reference
from torana.core.ops.source import InvalidSourceError, SourceRequest, SourceServices
from torana.plugins.registry.images import ResolveMode
from torana.plugins.registry.layout import LayoutOrigin
from torana.plugins.registry.origin import OpenOrigin
from torana.plugins.sources.image import ImageInstance, layer_limit

FindLayout = Callable[[str, str], OpenOrigin]
"""Finds a layout by the name of its store and the session that has it, which may be empty."""


def store_name(rest: str) -> str:
    """Give the store that `NAME[:TAG]@DIGEST` is looked for in, if nothing else says so."""
    name = rest.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"


class LayoutNotOfferedError(NotFoundError):
    """The client has no layout of that name."""

    code = "LAYOUT_NOT_OFFERED"


def of_folders(layouts: Mapping[str, Path]) -> FindLayout:
    """Find folders of this machine, by the name of their store."""

    def find(store: str, session_id: str) -> OpenOrigin:
        folder = layouts.get(store)
        if folder is None:
            raise LayoutNotOfferedError(f"no OCI layout is called `{store}`")
        return partial(LayoutOrigin, folder)

    return find


class LayoutSource:
    """Serves `oci-layout://` from the layouts that `find` finds."""

    schemes = ("oci-layout",)

    def __init__(self, find: FindLayout) -> None:
        self._find = find

    def open(self, request: SourceRequest, services: SourceServices) -> ImageInstance:
        reference = parse_reference(request.rest)
        if reference.digest is None:
            raise InvalidSourceError(f"oci-layout reference has no digest: `{request.rest}`")
        store = request.attrs.get("oci.store") or store_name(request.rest)
        return ImageInstance(
            self._find(store, request.attrs.get("oci.session", "")),
            services,
            reference=reference,
            platform=request.platform or host_platform(),
            mode=ResolveMode.PULL,
            limit=layer_limit(request.attrs.get("oci.layerlimit", "")),
            is_registry=False,
        )
