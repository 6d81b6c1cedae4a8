"""The messages of LLB as frozen values.

Names are those of `pb` in snake case; sentinels are BuildKit's: -1 for "no input", "no output",
"no timestamp", "keep mode". Nothing is checked here: `validate` checks whole definitions.

Spec: solver/pb/ops.proto. One module as that is one file: a reader of the one finds all of it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import IntEnum
from typing import Final

from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.records import dataclass

EMPTY: Final = -1  # an input that is scratch, or that is not there
SKIP_OUTPUT: Final = -1
LLB_BUILDER: Final = -1
DEFINITION_INPUT: Final = "buildkit.llb.definition"


class NetMode(IntEnum):
    """Network of an exec op."""

    UNSET = 0
    HOST = 1
    NONE = 2


class SecurityMode(IntEnum):
    """Privileges of an exec op."""

    SANDBOX = 0
    INSECURE = 1


class MountType(IntEnum):
    """Kind of a mount of an exec op."""

    BIND = 0
    SECRET = 1
    SSH = 2
    CACHE = 3
    TMPFS = 4


class MountContentCache(IntEnum):
    """Whether the content of a mount's input may be the key."""

    DEFAULT = 0
    ON = 1
    OFF = 2


class CacheSharing(IntEnum):
    """What happens when a cache mount is in use."""

    SHARED = 0
    PRIVATE = 1
    LOCKED = 2


@dataclass(frozen=True, slots=True)
class Input:
    """Output `index` of the op with `digest`."""

    digest: Digest
    index: int = 0


@dataclass(frozen=True, slots=True)
class Constraints:
    """Filters on workers; the empty message is written, too."""

    filter: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOp:
    """Fetch something: `<scheme>://<rest>` with options."""

    identifier: str
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyEnv:
    """Proxy settings of a process; not part of its cache key."""

    http_proxy: str = ""
    https_proxy: str = ""
    ftp_proxy: str = ""
    no_proxy: str = ""
    all_proxy: str = ""


@dataclass(frozen=True, slots=True)
class HostIP:
    """An additional entry of the hosts file."""

    host: str
    ip: str


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A resource limit of a process; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """A process: `env` holds `KEY=value`."""

    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    proxy_env: ProxyEnv | None = None
    extra_hosts: tuple[HostIP, ...] = ()
    hostname: str = ""
    ulimit: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""
    remove_mount_stubs_recursive: bool = False
    valid_exit_codes: tuple[int, ...] = ()  # empty: only 0


@dataclass(frozen=True, slots=True)
class TmpfsOpt:
    size: int = 0  # bytes, 0 is no limit


@dataclass(frozen=True, slots=True)
class CacheOpt:
    id: str = ""
    sharing: CacheSharing = CacheSharing.SHARED


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretOpt:
    id: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = 0  # permission bits; clients send 0o400
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SSHOpt:
    id: str = ""  # empty is `default`
    uid: int = 0
    gid: int = 0
    mode: int = 0  # permission bits; clients send 0o600
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mount of an exec op; `input` and `output` -1 are none."""

    input: int = 0
    selector: str = ""
    dest: str = ""
    output: int = 0
    readonly: bool = False
    mount_type: MountType = MountType.BIND
    tmpfs_opt: TmpfsOpt | None = None
    cache_opt: CacheOpt | None = None
    secret_opt: SecretOpt | None = None
    ssh_opt: SSHOpt | None = None
    result_id: str = ""
    content_cache: MountContentCache = MountContentCache.DEFAULT


@dataclass(frozen=True, slots=True)
class SecretEnv:
    """A secret as an environment variable."""

    id: str
    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class CDIDevice:
    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecOp:
    """Run a process."""

    meta: Meta | None = None
    mounts: tuple[Mount, ...] = ()
    network: NetMode = NetMode.UNSET
    security: SecurityMode = SecurityMode.SANDBOX
    secret_env: tuple[SecretEnv, ...] = ()
    cdi_devices: tuple[CDIDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedUser:
    """A user or group name, looked up in the tree with number `input`."""

    name: str
    input: int = 0


@dataclass(frozen=True, slots=True)
class UserOpt:
    """A user or group: one of the two is set."""

    by_name: NamedUser | None = None
    by_id: int | None = None


@dataclass(frozen=True, slots=True)
class ChownOpt:
    user: UserOpt | None = None
    group: UserOpt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Copy `src` of the secondary input to `dest`."""

    src: str = ""
    dest: str = ""
    owner: ChownOpt | None = None
    mode: int = 0  # -1 keeps
    follow_symlink: bool = False
    dir_copy_contents: bool = False
    attempt_unpack: bool = False
    create_dest_path: bool = False
    allow_wildcard: bool = False
    allow_empty_wildcard: bool = False
    timestamp: int = 0  # ns since the epoch, -1 keeps
    include_patterns: tuple[str, ...] = ()
    exclude_patterns: tuple[str, ...] = ()
    always_replace_existing: bool = False
    mode_str: str = ""
    required_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MkFile:
    path: str = ""
    mode: int = 0
    data: bytes = b""
    owner: ChownOpt | None = None
    timestamp: int = 0  # ns since the epoch, -1 is now


@dataclass(frozen=True, slots=True, kw_only=True)
class MkDir:
    path: str = ""
    mode: int = 0
    make_parents: bool = False
    owner: ChownOpt | None = None
    timestamp: int = 0  # ns since the epoch, -1 is now


@dataclass(frozen=True, slots=True, kw_only=True)
class Rm:
    path: str = ""
    allow_not_found: bool = False
    allow_wildcard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink:
    oldpath: str = ""
    newpath: str = ""
    owner: ChownOpt | None = None
    timestamp: int = 0  # ns since the epoch, -1 is now


FileActionKind = Copy | MkFile | MkDir | Rm | Symlink


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAction:
    """One step of a file op; inputs count those of the op first, then earlier results."""

    input: int = 0
    secondary_input: int = 0
    output: int = 0
    action: FileActionKind | None = None


@dataclass(frozen=True, slots=True)
class FileOp:
    actions: tuple[FileAction, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildInput:
    input: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOp:
    """Solve a definition that lies in an input."""

    builder: int = LLB_BUILDER
    inputs: Mapping[str, BuildInput] = field(default_factory=dict)
    definition: bytes | None = None  # not used by BuildKit; kept as it came
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MergeInput:
    input: int = 0


@dataclass(frozen=True, slots=True)
class MergeOp:
    inputs: tuple[MergeInput, ...] = ()


@dataclass(frozen=True, slots=True)
class DiffInput:
    input: int = 0  # -1 is scratch


@dataclass(frozen=True, slots=True)
class DiffOp:
    lower: DiffInput | None = None
    upper: DiffInput | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassthroughOp:
    """Forward inputs as outputs."""

    id: str = ""
    outputs: tuple[int, ...] = ()


OpKind = ExecOp | SourceOp | FileOp | BuildOp | MergeOp | DiffOp | PassthroughOp


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """A node of the graph; the terminal op has inputs only."""

    inputs: tuple[Input, ...] = ()
    kind: OpKind | None = None
    platform: Platform | None = None
    constraints: Constraints | None = None


@dataclass(frozen=True, slots=True)
class ExportCache:
    value: bool = False


@dataclass(frozen=True, slots=True)
class ProgressGroup:
    """Ops with the same group id are displayed as one."""

    id: str
    name: str = ""
    weak: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinuxResources:
    """Limits of an exec op; 0 and empty are unset."""

    memory: int = 0  # bytes
    memory_swap: int = 0  # bytes, -1 is unlimited
    cpu_shares: int = 0
    cpu_period: int = 0  # microseconds
    cpu_quota: int = 0  # microseconds a period
    cpuset_cpus: str = ""
    cpuset_mems: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpMetadata:
    """What is said of an op beside its bytes; never part of its digest."""

    ignore_cache: bool = False
    description: Mapping[str, str] = field(default_factory=dict)
    export_cache: ExportCache | None = None
    caps: Mapping[str, bool] = field(default_factory=dict)
    progress_group: ProgressGroup | None = None
    linux_resources: LinuxResources | None = None

    def merged(self, other: OpMetadata) -> OpMetadata:
        """Join what two equal ops say; `other` wins."""
        return OpMetadata(
            ignore_cache=self.ignore_cache or other.ignore_cache,
            description={**self.description, **other.description},
            export_cache=other.export_cache or self.export_cache,
            caps={**self.caps, **other.caps},
            progress_group=other.progress_group or self.progress_group,
            linux_resources=other.linux_resources or self.linux_resources,
        )
