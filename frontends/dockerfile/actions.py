"""What a stage does to its file tree, with every word expanded: the result of evaluating a stage.

Evaluating comes first and touches no LLB; only when all stages are evaluated is it known which
paths of the build context are used, and LLB can be emitted (`emit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from torana.core.errors import SourceRange
from torana.core.llb.ops import CacheSharing, NetMode, SecurityMode
from torana.core.oci.platform import Platform
from torana.core.records import dataclass
from torana.frontends.dockerfile.devices import Device
from torana.frontends.kit.gitref import GitRef

if TYPE_CHECKING:
    from torana.frontends.dockerfile.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is shown of an action: its progress name and its place in the Dockerfile."""

    name: str
    ranges: tuple[SourceRange, ...]
    command: str = ""  # the instruction as written
    ignore_cache: bool = False


@dataclass(frozen=True, slots=True)
class Owner:
    """`USER[:GROUP]`, each an id or a name that is looked up in the tree."""

    user: int | str
    group: int | str | None = None


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """WORKDIR: create a directory with its parents."""

    step: Step
    path: str
    owner: Owner | None = None
    timestamp_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSource:
    """Path in the build context (`stage` None) or in another stage's tree."""

    stage: Stage | None
    path: str
    unpacks: bool = False
    include: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GitSource:
    """A repository; its whole tree is copied."""

    ref: GitRef
    url: str
    keeps_git_dir: bool | None = None
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A download; the file is named `filename` in its tree."""

    url: str
    filename: str
    checksum: str = ""
    unpacks: bool = False


@dataclass(frozen=True, slots=True)
class InlineSource:
    """A heredoc; becomes a file `name`."""

    name: str
    data: bytes


CopySource = LocalSource | GitSource | HttpSource | InlineSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """COPY or ADD: sources one after another into one destination."""

    step: Step
    sources: Sequence[CopySource]
    destination: str
    owner: Owner | None = None
    mode: int | str | None = None  # permission bits or a symbolic change; None keeps them
    exclude: tuple[str, ...] = ()
    is_link: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BindMount:
    """A tree shown at `target`; `stage` None is the build context."""

    target: str
    stage: Stage | None
    source: str = "/"
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineMount:
    """A script that exists only while the step runs."""

    target: str
    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMount:
    """A directory that outlives the build, begun from `source` of `stage` (None: empty)."""

    target: str
    id: str
    sharing: CacheSharing
    stage: Stage | None
    source: str = "/"
    read_only: bool = False
    made: tuple[int, int, int] | None = None  # mode, uid, gid of a directory made first


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    target: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretMount:
    """A secret as a file (`target`), as a variable (`env`), or both."""

    id: str
    target: str = ""
    env: str | None = None
    uid: int = 0
    gid: int = 0
    mode: int = 0o400
    is_optional: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SshMount:
    id: str
    target: str = ""  # empty: /run/buildkit/ssh_agent.N
    uid: int = 0
    gid: int = 0
    mode: int = 0o600
    is_optional: bool = True


Mount = BindMount | InlineMount | CacheMount | TmpfsMount | SecretMount | SshMount


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProcess:
    """RUN: one process on the stage's tree."""

    step: Step
    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    mounts: Sequence[Mount] = ()
    network: NetMode = NetMode.UNSET
    security: SecurityMode = SecurityMode.SANDBOX
    devices: tuple[Device, ...] = ()
    platform: Platform | None = None  # None: that of the build


Action = MakeDirectory | Copy | RunProcess


@dataclass(slots=True)
class UsedPaths:
    """Which paths of a tree are read by others; `/` means all of it."""

    paths: set[str] = field(default_factory=set)

    def add(self, path: str) -> None:
        self.paths.add(path)

    def follow_paths(self) -> tuple[str, ...]:
        """Give the paths relative and sorted; empty for no limit, which also no path means."""
        if "/" in self.paths:
            return ()
        return tuple(sorted(path.lstrip("/") for path in self.paths))
