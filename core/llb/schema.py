"""Each message of LLB, described once: a row per field in the order in which Go writes it.

That is by number, members of a oneof last. The codec and the JSON form both read this table.

Spec: solver/pb/ops.proto.
"""

from __future__ import annotations

from typing import Any, Final

from torana.core.errors import Position
from torana.core.llb import definition as d
from torana.core.llb import ops as o
from torana.core.oci.platform import Platform
from torana.core.records import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message.

    `kind` is one of string, digest, bytes, optional_bytes, bool, int (64 bits), int32, uint32,
    uint64, enum, oneof_uint32, message, oneof (a member of the message's union: `attr` holds any
    of them), packed, strings, byte_list, messages, map.
    """

    number: int
    attr: str
    name: str  # in JSON forms
    kind: str
    type: Any = None  # message or enum class; kind or class of a map's values, of packed numbers


def _f(number: int, attr: str, kind: str = "string", type: Any = None, name: str = "") -> Field:
    return Field(number, attr, name or attr, kind, type)


SCHEMA: Final[dict[type, tuple[Field, ...]]] = {
    o.Op: (
        _f(1, "inputs", "messages", o.Input),
        _f(10, "platform", "message", Platform),
        _f(11, "constraints", "message", o.Constraints),
        _f(2, "kind", "oneof", o.ExecOp, "exec"),
        _f(3, "kind", "oneof", o.SourceOp, "source"),
        _f(4, "kind", "oneof", o.FileOp, "file"),
        _f(5, "kind", "oneof", o.BuildOp, "build"),
        _f(6, "kind", "oneof", o.MergeOp, "merge"),
        _f(7, "kind", "oneof", o.DiffOp, "diff"),
        _f(8, "kind", "oneof", o.PassthroughOp, "passthrough"),
    ),
    o.Input: (_f(1, "digest", "digest"), _f(2, "index", "int")),
    Platform: (
        _f(1, "architecture", name="Architecture"),
        _f(2, "os", name="OS"),
        _f(3, "variant", name="Variant"),
        _f(4, "os_version", name="OSVersion"),
        _f(5, "os_features", "strings", name="OSFeatures"),
    ),
    o.Constraints: (_f(1, "filter", "strings"),),
    o.SourceOp: (_f(1, "identifier"), _f(2, "attrs", "map", "string")),
    o.ExecOp: (
        _f(1, "meta", "message", o.Meta),
        _f(2, "mounts", "messages", o.Mount),
        _f(3, "network", "enum", o.NetMode),
        _f(4, "security", "enum", o.SecurityMode),
        _f(5, "secret_env", "messages", o.SecretEnv, "secretenv"),
        _f(6, "cdi_devices", "messages", o.CDIDevice, "cdiDevices"),
    ),
    o.Meta: (
        _f(1, "args", "strings"),
        _f(2, "env", "strings"),
        _f(3, "cwd"),
        _f(4, "user"),
        _f(5, "proxy_env", "message", o.ProxyEnv),
        _f(6, "extra_hosts", "messages", o.HostIP, "extraHosts"),
        _f(7, "hostname"),
        _f(9, "ulimit", "messages", o.Ulimit),
        _f(10, "cgroup_parent", name="cgroupParent"),
        _f(11, "remove_mount_stubs_recursive", "bool", name="removeMountStubsRecursive"),
        _f(12, "valid_exit_codes", "packed", "int32", name="validExitCodes"),
    ),
    o.ProxyEnv: (
        _f(1, "http_proxy"),
        _f(2, "https_proxy"),
        _f(3, "ftp_proxy"),
        _f(4, "no_proxy"),
        _f(5, "all_proxy"),
    ),
    o.HostIP: (_f(1, "host", name="Host"), _f(2, "ip", name="IP")),
    o.Ulimit: (
        _f(1, "name", name="Name"),
        _f(2, "soft", "int", name="Soft"),
        _f(3, "hard", "int", name="Hard"),
    ),
    o.SecretEnv: (_f(1, "id", name="ID"), _f(2, "name"), _f(3, "optional", "bool")),
    o.CDIDevice: (_f(1, "name"), _f(2, "optional", "bool")),
    o.Mount: (
        _f(1, "input", "int"),
        _f(2, "selector"),
        _f(3, "dest"),
        _f(4, "output", "int"),
        _f(5, "readonly", "bool"),
        _f(6, "mount_type", "enum", o.MountType, "mountType"),
        _f(19, "tmpfs_opt", "message", o.TmpfsOpt, "TmpfsOpt"),
        _f(20, "cache_opt", "message", o.CacheOpt, "cacheOpt"),
        _f(21, "secret_opt", "message", o.SecretOpt, "secretOpt"),
        _f(22, "ssh_opt", "message", o.SSHOpt, "SSHOpt"),
        _f(23, "result_id", name="resultID"),
        _f(24, "content_cache", "enum", o.MountContentCache, "contentCache"),
    ),
    o.TmpfsOpt: (_f(1, "size", "int"),),
    o.CacheOpt: (_f(1, "id", name="ID"), _f(2, "sharing", "enum", o.CacheSharing)),
    o.SecretOpt: (
        _f(1, "id", name="ID"),
        _f(2, "uid", "uint32"),
        _f(3, "gid", "uint32"),
        _f(4, "mode", "uint32"),
        _f(5, "optional", "bool"),
    ),
    o.SSHOpt: (
        _f(1, "id", name="ID"),
        _f(2, "uid", "uint32"),
        _f(3, "gid", "uint32"),
        _f(4, "mode", "uint32"),
        _f(5, "optional", "bool"),
    ),
    o.FileOp: (_f(2, "actions", "messages", o.FileAction),),
    o.FileAction: (
        _f(1, "input", "int"),
        _f(2, "secondary_input", "int", name="secondaryInput"),
        _f(3, "output", "int"),
        _f(4, "action", "oneof", o.Copy, "copy"),
        _f(5, "action", "oneof", o.MkFile, "mkfile"),
        _f(6, "action", "oneof", o.MkDir, "mkdir"),
        _f(7, "action", "oneof", o.Rm, "rm"),
        _f(8, "action", "oneof", o.Symlink, "symlink"),
    ),
    o.Copy: (
        _f(1, "src"),
        _f(2, "dest"),
        _f(3, "owner", "message", o.ChownOpt),
        _f(4, "mode", "int32"),
        _f(5, "follow_symlink", "bool", name="followSymlink"),
        _f(6, "dir_copy_contents", "bool", name="dirCopyContents"),
        _f(7, "attempt_unpack", "bool", name="attemptUnpackDockerCompatibility"),
        _f(8, "create_dest_path", "bool", name="createDestPath"),
        _f(9, "allow_wildcard", "bool", name="allowWildcard"),
        _f(10, "allow_empty_wildcard", "bool", name="allowEmptyWildcard"),
        _f(11, "timestamp", "int"),
        _f(12, "include_patterns", "strings"),
        _f(13, "exclude_patterns", "strings"),
        _f(14, "always_replace_existing", "bool", name="alwaysReplaceExistingDestPaths"),
        _f(15, "mode_str", name="modeStr"),
        _f(16, "required_paths", "strings"),
    ),
    o.MkFile: (
        _f(1, "path"),
        _f(2, "mode", "int32"),
        _f(3, "data", "bytes"),
        _f(4, "owner", "message", o.ChownOpt),
        _f(5, "timestamp", "int"),
    ),
    o.MkDir: (
        _f(1, "path"),
        _f(2, "mode", "int32"),
        _f(3, "make_parents", "bool", name="makeParents"),
        _f(4, "owner", "message", o.ChownOpt),
        _f(5, "timestamp", "int"),
    ),
    o.Rm: (
        _f(1, "path"),
        _f(2, "allow_not_found", "bool", name="allowNotFound"),
        _f(3, "allow_wildcard", "bool", name="allowWildcard"),
    ),
    o.Symlink: (
        _f(1, "oldpath"),
        _f(2, "newpath"),
        _f(3, "owner", "message", o.ChownOpt),
        _f(4, "timestamp", "int"),
    ),
    o.ChownOpt: (_f(1, "user", "message", o.UserOpt), _f(2, "group", "message", o.UserOpt)),
    o.UserOpt: (
        _f(1, "by_name", "message", o.NamedUser, "byName"),
        _f(2, "by_id", "oneof_uint32", name="byID"),
    ),
    o.NamedUser: (_f(1, "name"), _f(2, "input", "int")),
    o.BuildOp: (
        _f(1, "builder", "int"),
        _f(2, "inputs", "map", o.BuildInput),
        _f(3, "definition", "optional_bytes", name="def"),
        _f(4, "attrs", "map", "string"),
    ),
    o.BuildInput: (_f(1, "input", "int"),),
    o.MergeOp: (_f(1, "inputs", "messages", o.MergeInput),),
    o.MergeInput: (_f(1, "input", "int"),),
    o.DiffOp: (
        _f(1, "lower", "message", o.DiffInput),
        _f(2, "upper", "message", o.DiffInput),
    ),
    o.DiffInput: (_f(1, "input", "int"),),
    o.PassthroughOp: (_f(1, "id"), _f(2, "outputs", "packed", "int")),
    o.OpMetadata: (
        _f(1, "ignore_cache", "bool"),
        _f(2, "description", "map", "string"),
        _f(4, "export_cache", "message", o.ExportCache),
        _f(5, "caps", "map", "bool"),
        _f(6, "progress_group", "message", o.ProgressGroup),
        _f(7, "linux_resources", "message", o.LinuxResources),
    ),
    o.ExportCache: (_f(1, "value", "bool", name="Value"),),
    o.ProgressGroup: (_f(1, "id"), _f(2, "name"), _f(3, "weak", "bool")),
    o.LinuxResources: (
        _f(1, "memory", "int"),
        _f(2, "memory_swap", "int", name="memorySwap"),
        _f(3, "cpu_shares", "uint64", name="cpuShares"),
        _f(4, "cpu_period", "uint64", name="cpuPeriod"),
        _f(5, "cpu_quota", "int", name="cpuQuota"),
        _f(6, "cpuset_cpus", name="cpusetCpus"),
        _f(7, "cpuset_mems", name="cpusetMems"),
    ),
    d.Definition: (
        _f(1, "ops", "byte_list", name="def"),
        _f(2, "metadata", "map", o.OpMetadata),
        _f(3, "source", "message", d.SourceMap, "Source"),
    ),
    d.SourceMap: (
        _f(1, "locations", "map", d.Locations),
        _f(2, "infos", "messages", d.SourceInfo),
    ),
    d.SourceInfo: (
        _f(1, "filename"),
        _f(2, "data", "bytes"),
        _f(3, "definition", "message", d.Definition),
        _f(4, "language"),
    ),
    d.Locations: (_f(1, "locations", "messages", d.Location),),
    d.Location: (
        _f(1, "source_index", "int32", name="sourceIndex"),
        _f(2, "ranges", "messages", d.Range),
    ),
    d.Range: (_f(1, "start", "message", Position), _f(2, "end", "message", Position)),
    Position: (_f(1, "line", "int32"), _f(2, "column", "int32", name="character")),
}
