"""The sources of single blobs: `docker-image+blob://REPOSITORY@DIGEST` and `oci-layout+blob://...`.

The digest names the content, so that a key needs no network; the file is fetched when it is needed.

Spec: reference of sources, section 4; reference of the solver, section 6.1.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from torana.core.cache.ref import RecordType, Tree
from torana.core.content.store import ContentStore
from torana.core.oci.digest import Digest
from torana.core.oci.reference import ImageReference, parse_reference
from torana.core.ops.keyjson import key_json
from torana.core.ops.source import InvalidSourceError, SourceKey, SourceRequest, SourceServices
from torana.core.pool import run_blocking
from torana.core.records import dataclass
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.origin import OpenOrigin
from torana.plugins.sources.bloborigins import (
    LAYOUT_BLOB,
    REGISTRY_BLOB,
    BlobOrigins,
    fetch_blob,
)
from torana.plugins.sources.httpoptions import base_name, number
from torana.plugins.sources.image import record_type
from torana.plugins.sources.layout import FindLayout

_DEFAULT_MODE: Final = 0o600
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobOptions:
    """What is asked for; `mode` 0 means unset, which is 0600."""

    reference: ImageReference
    digest: Digest
    filename: str
    mode: int
    uid: int
    gid: int
    record_type: RecordType

    @property
    def key(self) -> str:
        members = {
            "Digest": self.digest,
            "Filename": self.filename,
            "Perm": self.mode,
            "UID": self.uid,
            "GID": self.gid,
        }
        return Digest.of(key_json(members))


def parse_blob(request: SourceRequest) -> BlobOptions:
    """Read identifier and attributes.

    Raises:
        InvalidSourceError: no digest, or a malformed attribute.
        InvalidReferenceError: the reference is malformed.
    """
    attrs = request.attrs
    reference = parse_reference(request.rest)
    if reference.digest is None:
        raise InvalidSourceError(f"blob reference has no digest: `{request.rest}`")
    name = attrs.get("http.filename", "")
    return BlobOptions(
        reference=reference,
        digest=reference.digest,
        filename=base_name(name) if name else reference.digest.encoded,
        mode=number(attrs.get("http.perm", "0"), "http.perm"),
        uid=number(attrs.get("http.uid", "0"), "http.uid"),
        gid=number(attrs.get("http.gid", "0"), "http.gid"),
        record_type=record_type(attrs),
    )


class BlobSource:
    """Serves `docker-image+blob://`; without `access` with the settings of the user."""

    schemes = (REGISTRY_BLOB,)

    def __init__(self, access: RegistryAccess | None = None) -> None:
        self._origins = BlobOrigins(access=access)

    def open(self, request: SourceRequest, services: SourceServices) -> BlobInstance:
        return BlobInstance(self._origins.open(REGISTRY_BLOB), services, parse_blob(request))


class LayoutBlobSource:
    """Serves `oci-layout+blob://` from the layouts that `find` finds."""

    schemes = (LAYOUT_BLOB,)

    def __init__(self, find: FindLayout) -> None:
        self._origins = BlobOrigins(find_layout=find)

    def open(self, request: SourceRequest, services: SourceServices) -> BlobInstance:
        options = parse_blob(request)
        attrs = request.attrs
        origin = self._origins.open(
            LAYOUT_BLOB, store=attrs.get("oci.store", ""), session_id=attrs.get("oci.session", "")
        )
        return BlobInstance(origin, services, options)


class BlobInstance:
    """One blob as a file."""

    def __init__(self, origin: OpenOrigin, services: SourceServices, options: BlobOptions) -> None:
        self._origin = origin
        self._services = services
        self._options = options

    async def cache_key(self, index: int) -> SourceKey:
        return SourceKey(self._options.key, pin=self._options.digest)

    async def snapshot(self) -> Tree | None:
        """Give a directory with the file.

        Raises:
            ToranaError: it cannot be had, or is not what the digest says.
        """
        options, services = self._options, self._services
        await fetch_blob(self._origin, options.reference, options.digest, services.content)
        new = await services.refs.new_mutable(
            None,
            description=f"blob {options.reference}",
            record_type=options.record_type,
        )
        try:
            with new.mount() as root:
                await run_blocking(_place, services.content, options, root)
            return await new.commit()
        except BaseException:
            await new.release()
            raise


def _place(content: ContentStore, options: BlobOptions, root: Path) -> None:
    target = root / options.filename
    with content.open(options.digest) as source, open(target, "xb") as file:
        shutil.copyfileobj(source, file, _CHUNK)
    os.chown(target, options.uid, options.gid)
    os.chmod(target, options.mode or _DEFAULT_MODE)
    for path in (target, root):
        os.utime(path, (0, 0))
