"""What a stage says, with every word expanded and typed: steps, mounts, image, tests.

Values here are final: no expression is left, templates are inlined, conditions are decided. Paths
are as written; `emit` makes them absolute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import Enum

from torana.core.llb.ops import CacheSharing, NetMode
from torana.core.oci.platform import Platform
from torana.core.records import dataclass
from torana.frontends.kit.yamltree import Mark

Env = Mapping[str, str | None]  # None: unset


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step came from: its own place first, then the calls of templates around it."""

    marks: tuple[Mark, ...]

    @property
    def mark(self) -> Mark:
        return self.marks[0]


class OriginKind(Enum):
    STAGE = "stage"
    IMAGE = "image"
    MAIN = "context"
    NAMED = "named"
    SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Origin:
    """A tree that a stage begins with or a step reads; equal ones are the same tree."""

    kind: OriginKind
    name: str = ""
    digest: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    user: int | str
    group: int | str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMount:
    target: str
    id: str = ""
    sharing: CacheSharing = CacheSharing.SHARED
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    origin: Origin | None = None
    source: str = "/"
    per_platform: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretMount:
    id: str
    env: str | None = None
    target: str = ""
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    is_optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SshMount:
    id: str = "default"
    target: str = ""
    mode: int = 0o600
    is_optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BindMount:
    origin: Origin
    source: str
    target: str
    is_writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TmpfsMount:
    target: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Options of `run` and `exec`; None is what the stage says."""

    env: Env = field(default_factory=dict)
    workdir: str | None = None
    user: str | None = None
    network: NetMode | None = None
    is_privileged: bool = False
    caches: Sequence[CacheMount] = ()
    secrets: Sequence[SecretMount] = ()
    agents: Sequence[SshMount] = ()
    binds: Sequence[BindMount] = ()
    memories: Sequence[TmpfsMount] = ()
    ignores_cache: bool = False
    has_readonly_root: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What all steps have: a name for people, and a place."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Step):
    """A script for the shell; with `script` the arguments of that file of the context."""

    text: str
    script: str = ""
    shell: tuple[str, ...] | None = None
    process: Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec(Step):
    args: tuple[str, ...]
    process: Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Step):
    sources: tuple[str, ...]
    to: str
    origin: Origin
    exclude: tuple[str, ...] = ()
    mode: int | None = None
    owner: Owner | None = None
    unpacks: bool = False
    keeps_parents: bool = False
    is_link: bool = False
    follows_links: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Step):
    url: str
    to: str
    checksum: str = ""  # a digest
    unpacks: bool = False
    strip: int = 0
    only: tuple[str, ...] = ()
    mode: int | None = None
    owner: Owner | None = None
    auth: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Git(Step):
    url: str
    to: str
    ref: str = ""
    commit: str = ""
    subdir: str = ""
    keeps_git_dir: bool = False
    has_submodules: bool = True
    auth: str = ""
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Write(Step):
    path: str
    content: str
    mode: int | None = None
    owner: Owner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory(Step):
    paths: tuple[str, ...]
    mode: int | None = None
    owner: Owner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove(Step):
    paths: tuple[str, ...]
    may_be_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink(Step):
    path: str
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    line: str
    key: str = ""  # an address
    checksum: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages(Step):
    names: tuple[str, ...]
    manager: str
    repositories: tuple[Repository, ...] = ()
    removes_index: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Set(Step):
    env: Env = field(default_factory=dict)
    workdir: str | None = None
    user: str | None = None
    shell: tuple[str, ...] | None = None
    network: NetMode | None = None


AnyStep = (
    Run | Exec | Copy | Fetch | Git | Write | MakeDirectory | Remove | Symlink | Packages | Set
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCheck:
    equals: str | None = None
    contains: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    is_empty: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    exists: bool = True
    type: str = ""
    mode: int | None = None
    owner: Owner | None = None
    contains: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    name: str
    mark: Mark
    text: str | None = None  # for the shell
    args: tuple[str, ...] = ()
    exit_code: int = 0
    stdout: TextCheck | None = None
    stderr: TextCheck | None = None
    files: Mapping[str, FileCheck] = field(default_factory=dict)
    binds: Sequence[BindMount] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Changes to the config of the base image; None keeps a member."""

    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: Env = field(default_factory=dict)
    labels: Env = field(default_factory=dict)
    user: str | None = None
    workdir: str | None = None
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str | None = None
    healthcheck: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage, or one variant of it."""

    name: str
    mark: Mark
    description: str = ""
    origin: Origin | None = None  # None: `merged`
    origin_mark: Mark
    merged: tuple[Origin, ...] = ()
    platform: Platform | None = None
    defaults: Set
    settings: Set
    caches: Sequence[CacheMount] = ()
    steps: Sequence[AnyStep] = ()
    tests: Sequence[Test] = ()
    image: Image
    expressions: frozenset[str] = frozenset()  # names of arguments that were read

    def origins(self) -> list[tuple[Origin, Mark]]:
        """Give the trees that the stage reads, each with the place of the first use."""
        found: dict[Origin, Mark] = {}
        for origin in (*([self.origin] if self.origin else ()), *self.merged):
            found.setdefault(origin, self.origin_mark)
        for cache in self.caches:
            if cache.origin is not None:
                found.setdefault(cache.origin, self.mark)
        for step in self.steps:
            for origin in _read_by(step):
                found.setdefault(origin, step.place.mark)
        for test in self.tests:
            for bind in test.binds:
                found.setdefault(bind.origin, test.mark)
        return list(found.items())


def _read_by(step: AnyStep) -> list[Origin]:
    match step:
        case Copy():
            return [step.origin]
        case Run() | Exec():
            script = [Origin(OriginKind.MAIN)] if isinstance(step, Run) and step.script else []
            caches = [cache.origin for cache in step.process.caches if cache.origin is not None]
            return [*script, *caches, *(bind.origin for bind in step.process.binds)]
    return []
