"""`Client`, `Reference`, `Result`: the LLBBridge as a frontend sees it.

One protocol, implemented in process (`torana.gateway.bridge`) and later over gRPC. Frontends must
not know which one they have.

Spec: `moby.buildkit.v1.frontend.LLBBridge`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from torana.core.errors import SourceRange
from torana.core.llb.definition import Definition
from torana.core.llb.policy import SourcePolicy
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.records import dataclass

if TYPE_CHECKING:
    from torana.gateway.client.containers import Container, ContainerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """Metadata of one path; `mode` is the Go-free `st_mode` of stat(2), type bits included."""

    path: str
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0  # bytes
    mtime_ns: int = 0
    linkname: str = ""
    devmajor: int = 0
    devminor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


class Reference(Protocol):
    """A lazy filesystem: nothing runs until something of it is needed."""

    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Read a file, or `length` bytes of it from `offset`.

        Raises:
            NotFoundError: no such file.
        """
        ...

    async def read_dir(self, path: str, *, include: str | None = None) -> Sequence[Stat]:
        """List one directory, sorted by name; `include` is a pattern for names."""
        ...

    async def stat(self, path: str) -> Stat:
        """Give metadata of what is at `path`; links are followed, inside the tree.

        Raises:
            NotFoundError: there is nothing.
        """
        ...

    async def evaluate(self) -> None:
        """Run everything that the reference needs."""
        ...

    async def definition(self) -> Definition | None:
        """Give the definition that made it, usable as input of another state; None for scratch."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationSubject:
    """What an attestation is about: these digests, or the exported artefact if there are none."""

    name: str = ""
    digests: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """Something said of a result: an in-toto statement or a bundle of them in `ref`."""

    kind: str  # "in-toto" or "bundle"
    ref: Reference | None
    path: str = ""
    predicate_type: str = ""
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    subjects: Sequence[AttestationSubject] = ()  # none: the image itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a solve or a frontend gives: one reference, or one per platform id, and metadata.

    `ref` None with empty `refs` is scratch. Metadata keys: exporters reference, section 7.
    """

    ref: Reference | None = None
    refs: Mapping[str, Reference | None] = field(default_factory=dict)
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    attestations: Mapping[str, Sequence[Attestation]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheImport:
    """A cache source for a solve."""

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveRequest:
    """Exactly one of `definition` and `frontend`; neither gives a scratch result."""

    definition: Definition | None = None
    frontend: str = ""
    frontend_opt: Mapping[str, str] = field(default_factory=dict)
    frontend_inputs: Mapping[str, Definition] = field(default_factory=dict)
    cache_imports: Sequence[CacheImport] = ()
    evaluate: bool = False
    source_policies: Sequence[SourcePolicy] = ()  # besides those of the build


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedImage:
    """Answer to an image lookup: the reference as resolved, its digest, its config as JSON."""

    ref: str
    digest: Digest
    config: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSource:
    """Answer to a source metadata lookup; what is not known is None.

    `identifier` and `attrs` are the source op after policies.
    """

    identifier: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    image: ResolvedImage | None = None
    git_checksum: str | None = None  # what the ref points to, a tag object for annotated tags
    git_ref: str = ""  # full name
    git_commit_checksum: str = ""  # behind an annotated tag
    git_commit_object: bytes | None = None
    git_tag_object: bytes | None = None
    http_digest: Digest | None = None
    http_filename: str | None = None
    http_last_modified: int | None = None  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker of the engine; its first platform is the build platform."""

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: Sequence[Platform] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning:
    """A warning of a frontend about a vertex (or the build file)."""

    vertex: Digest
    short: str
    level: int = 1
    detail: Sequence[str] = ()
    url: str = ""
    ranges: Sequence[SourceRange] = ()
    data: bytes = b""  # text of the build file


class Client(Protocol):
    """What a frontend may ask of an engine.

    Conformance: `torana.core.testing` has the suite; in-process and gRPC clients pass the same.
    """

    @property
    def options(self) -> Mapping[str, str]:
        """Frontend options, exactly as the user's client sent them."""
        ...

    @property
    def session_id(self) -> str: ...

    @property
    def workers(self) -> Sequence[Worker]: ...

    @property
    def llb_caps(self) -> frozenset[str]:
        """LLB capability ids that the engine has."""
        ...

    @property
    def gateway_caps(self) -> frozenset[str]: ...

    async def inputs(self) -> Mapping[str, Definition]:
        """Give the named definitions that were handed to this frontend."""
        ...

    async def solve(self, request: SolveRequest) -> Result: ...

    async def resolve_image(
        self,
        ref: str,
        *,
        platform: Platform | None = None,
        resolve_mode: str = "default",
        log_name: str = "",
    ) -> ResolvedImage:
        """Look up an image config.

        `ref` may be normalised or not; `oci-layout://` references go through `resolve_source`.

        Raises:
            NotFoundError: no such image.
            UnsupportedError: the engine has no image source.
        """
        ...

    async def resolve_source(
        self,
        identifier: str,
        attrs: Mapping[str, str],
        *,
        platform: Platform | None = None,
        log_name: str = "",
        resolve_mode: str = "default",
    ) -> ResolvedSource: ...

    async def new_container(self, spec: ContainerSpec) -> Container:
        """Open a container; the caller releases it, or enters it with `async with`.

        Raises:
            UserError: its mounts make no sense, or it needs an entitlement that was not granted.
            UnsupportedError: the engine has no containers.
        """
        ...

    async def warn(self, warning: Warning) -> None: ...
