"""Sources: what a source plugin implements, and the op that runs one.

Spec: reference of the solver, section 6.1; reference of sources, section 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Protocol, cast

from torana.core.cache.imagelayers import ImageLayers
from torana.core.cache.ref import RefStore, Tree
from torana.core.content.images import ImageStore
from torana.core.content.store import ContentStore
from torana.core.database import Database
from torana.core.errors import NotFoundError, UserError
from torana.core.llb.ops import SourceOp
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.ops.exec.services import SecretProvider, SSHProvider
from torana.core.records import dataclass
from torana.core.solver.op import CacheMap, Result


class InvalidSourceError(UserError):
    """A source identifier or attribute is malformed."""

    code = "SOURCE_INVALID"


class UnknownSchemeError(NotFoundError):
    """Nothing serves a scheme."""

    code = "SOURCE_SCHEME_UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRequest:
    """A source op taken apart. `rest` is what follows `://`; unknown `attrs` are to be ignored."""

    scheme: str
    rest: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None

    @property
    def identifier(self) -> str:
        return f"{self.scheme}://{self.rest}"


@dataclass(frozen=True, slots=True)
class SourceKey:
    """One step of a source's key; `pin` says what was resolved, for provenance."""

    key: str
    pin: str = ""
    is_last: bool = True


class SourceInstance(Protocol):
    """One source being used; both calls may be made more than once."""

    async def cache_key(self, index: int) -> SourceKey:
        """Give key number `index`, counted from 0; a key `session:...` never matches another."""
        ...

    async def snapshot(self) -> Tree | None:
        """Fetch it. The handle is the caller's; None is an empty tree."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMetadata:
    """What a reference stands for: the digest (of an index, if there is one) and a config."""

    ref: str
    digest: Digest
    config: bytes


class ImageSourceInstance(SourceInstance, Protocol):
    """An instance that knows the config of an image without fetching its layers."""

    async def metadata(self) -> ImageMetadata: ...


class SourceProgress(Protocol):
    """Where a source reports counters (`sha256:... 3 MB / 8 MB`) and output, on the event loop."""

    def log(self, stream: int, data: bytes) -> None: ...

    def status(
        self, id: str, *, name: str = "", current: int = 0, total: int = 0, done: bool = False
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceServices:
    """What a worker lends to the sources of one build.

    `memo` lives as long as the build: what a source resolved once (a git branch, a download, a tag
    of an image) is kept there under a key that begins with its scheme, so that one build sees one
    value. Refs, blobs and rows outlive the build.
    """

    root: Path
    refs: RefStore
    content: ContentStore
    images: ImageStore
    image_layers: ImageLayers
    database: Database
    memo: MutableMapping[Any, Any]
    progress: SourceProgress
    secrets: SecretProvider | None = None
    ssh: SSHProvider | None = None


class Source(Protocol):
    """What a plugin offers for one or more schemes."""

    @property
    def schemes(self) -> Sequence[str]: ...

    def open(self, request: SourceRequest, services: SourceServices) -> SourceInstance:
        """Check a request without any I/O.

        Raises:
            UserError: the identifier or an attribute is malformed.
        """
        ...


FindSource = Callable[[str], Source | None]


def open_source(
    op: SourceOp, platform: Platform | None, find: FindSource, services: SourceServices
) -> SourceInstance:
    """Find the source for an op.

    Raises:
        InvalidSourceError: the identifier has no scheme.
        UnknownSchemeError: nothing serves it.
    """
    scheme, separator, rest = op.identifier.partition("://")
    if not separator or not scheme:
        raise InvalidSourceError(f"failed to parse source identifier: `{op.identifier}`")
    source = find(scheme)
    if source is None:
        raise UnknownSchemeError(f"unknown scheme {scheme}: not found")
    request = SourceRequest(scheme=scheme, rest=rest, attrs=op.attrs, platform=platform)
    return source.open(request, services)


def source_digest(key: str) -> Digest:
    """Turn a source's key into a cache map digest."""
    encoded = hashlib.sha256(f"buildkit.source.v0:{key}".encode()).hexdigest()
    algorithm = "random" if key.startswith("session:") else "sha256"
    return Digest(f"{algorithm}:{encoded}")


class SourceVertexOp:
    """Runs a source. `pin` is known after the last cache map."""

    is_limited = True  # by the solver's `max_parallelism`

    def __init__(self, instance: SourceInstance) -> None:
        self._instance = instance
        self.pin = ""

    async def cache_map(self, index: int) -> tuple[CacheMap, bool]:
        step = await self._instance.cache_key(index)
        self.pin = step.pin or self.pin
        return CacheMap(digest=source_digest(step.key)), step.is_last

    async def exec(self, inputs: Sequence[Result]) -> Sequence[Result]:
        return [cast("Result", await self._instance.snapshot())]
