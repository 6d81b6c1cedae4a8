"""Vertices under construction: what `State` methods make and `marshal` turns into ops.

A vertex knows its inputs in the order in which they are visited, and gives its `Op` once the
digests of the inputs are known. One module: the kinds differ in little, and are compared in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from torana.core.errors import SourceRange
from torana.core.llb import ops as o
from torana.core.llb.caps import SETS_DEFAULT_PATH
from torana.core.llb.definition import SourceInfo
from torana.core.llb.places import current_location
from torana.core.oci.image import DEFAULT_PATH
from torana.core.oci.platform import Platform
from torana.core.records import dataclass


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """Where an op came from: ranges (maybe none) in a source file."""

    info: SourceInfo
    ranges: tuple[SourceRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may be said of any op without changing what it does."""

    custom_name: str = ""
    description: Mapping[str, str] = field(default_factory=dict)
    ignore_cache: bool = False
    export_cache: bool | None = None
    progress_group: o.ProgressGroup | None = None
    linux_resources: o.LinuxResources | None = None
    location: Sequence[SourceLocation] = field(default_factory=current_location)
    platform: Platform | None = None

    def metadata(self, caps: Sequence[str]) -> o.OpMetadata:
        described = dict(self.description)
        if self.custom_name:
            described["llb.customname"] = self.custom_name
        export = None if self.export_cache is None else o.ExportCache(self.export_cache)
        return o.OpMetadata(
            ignore_cache=self.ignore_cache,
            description=described,
            export_cache=export,
            caps=dict.fromkeys(caps, True),
            progress_group=self.progress_group,
            linux_resources=self.linux_resources,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """Output `index` of a vertex. Identity counts."""

    vertex: Vertex
    index: int = 0


Resolve = Callable[[Output], o.Input]


@dataclass(frozen=True, slots=True)
class Target:
    """What a definition is made for: default platform, and the engine's capabilities."""

    platform: Platform
    caps: frozenset[str]


class Vertex(Protocol):
    """A node of the graph under construction."""

    @property
    def options(self) -> Options: ...

    @property
    def visits(self) -> Sequence[Output]:
        """Inputs in the order in which they are marshalled."""
        ...

    def op(self, resolve: Resolve, target: Target) -> o.Op: ...

    def caps(self, target: Target) -> list[str]: ...


class _Inputs:
    """Numbers the inputs of one op; equal ones share a number."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._numbers: dict[o.Input, int] = {}

    def number(self, output: Output | None) -> int:
        if output is None:
            return o.EMPTY
        return self._numbers.setdefault(self._resolve(output), len(self._numbers))

    def all(self) -> tuple[o.Input, ...]:
        return tuple(self._numbers)


@dataclass(frozen=True, slots=True, eq=False)
class SourceVertex:
    """A source op; only image-like ones carry a platform."""

    identifier: str
    attrs: Mapping[str, str]
    needs: tuple[str, ...]
    options: Options
    has_platform: bool = False

    @property
    def visits(self) -> Sequence[Output]:
        return ()

    def op(self, resolve: Resolve, target: Target) -> o.Op:
        platform = (self.options.platform or target.platform) if self.has_platform else None
        return o.Op(
            kind=o.SourceOp(identifier=self.identifier, attrs=self.attrs),
            platform=platform,
            constraints=o.Constraints(),
        )

    def caps(self, target: Target) -> list[str]:
        return list(self.needs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MountSpec:
    """A mount before its input has a number."""

    target: str
    source: Output | None = None
    selector: str = ""
    readonly: bool = False
    no_output: bool = False
    type: o.MountType = o.MountType.BIND
    tmpfs_size: int = 0  # bytes
    cache_id: str = ""
    sharing: o.CacheSharing = o.CacheSharing.SHARED
    content_cache: o.MountContentCache = o.MountContentCache.DEFAULT

    @property
    def has_output(self) -> bool:
        kept = self.type not in (o.MountType.CACHE, o.MountType.TMPFS)
        return kept and not self.readonly and not self.no_output


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSpec:
    """A secret as a file at `target`, or, with `env`, as a variable."""

    id: str
    target: str = ""
    env: str | None = None
    uid: int = 0
    gid: int = 0
    mode: int = 0o400
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SSHSpec:
    """A forwarded agent; without a target it goes to `/run/buildkit/ssh_agent.<n>`."""

    id: str = ""
    target: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = 0o600
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExecVertex:
    """A process on mounts; mount order and numbering are BuildKit's."""

    meta: o.Meta
    mounts: tuple[MountSpec, ...]  # the root mount is one of them; sorted by target
    network: o.NetMode = o.NetMode.UNSET
    security: o.SecurityMode = o.SecurityMode.SANDBOX
    secrets: tuple[SecretSpec, ...] = ()
    ssh: tuple[SSHSpec, ...] = ()
    devices: tuple[o.CDIDevice, ...] = ()
    sets_path: bool = True
    options: Options = field(default_factory=Options)

    @property
    def visits(self) -> Sequence[Output]:
        return [mount.source for mount in self.mounts if mount.source is not None]

    def output_number(self, mount: MountSpec) -> int:
        """Give the number of the mount's output, -1 without one."""
        if not mount.has_output:
            return o.SKIP_OUTPUT
        before = self.mounts[: self.mounts.index(mount)]
        return sum(other.has_output for other in before)

    def op(self, resolve: Resolve, target: Target) -> o.Op:
        inputs = _Inputs(resolve)
        mounts: list[o.Mount] = []
        outputs = 0
        for spec in self.mounts:
            output = outputs if spec.has_output else o.SKIP_OUTPUT
            outputs += spec.has_output
            mounts.append(_mount(spec, inputs.number(spec.source), output))
        files = [secret for secret in self.secrets if secret.target]
        mounts += [_secret_mount(secret) for secret in files]
        mounts += [_ssh_mount(ssh, number) for number, ssh in enumerate(self.ssh)]
        platform = self.options.platform or target.platform
        kind = o.ExecOp(
            meta=self._meta(platform, target),
            mounts=tuple(mounts),
            network=self.network,
            security=self.security,
            secret_env=tuple(
                o.SecretEnv(secret.id, secret.env, secret.optional)
                for secret in self.secrets
                if secret.env is not None
            ),
            cdi_devices=self.devices,
        )
        return o.Op(inputs=inputs.all(), kind=kind, platform=platform, constraints=o.Constraints())

    def _meta(self, platform: Platform, target: Target) -> o.Meta:
        from dataclasses import replace

        env = self.meta.env
        if self.ssh and not any(entry.startswith("SSH_AUTH_SOCK=") for entry in env):
            env = (*env, f"SSH_AUTH_SOCK={_ssh_target(self.ssh[0], 0)}")
        if self.sets_path and SETS_DEFAULT_PATH not in target.caps and platform.os != "windows":
            if not any(entry.startswith("PATH=") for entry in env):
                env = (*env, f"PATH={DEFAULT_PATH}")
        return self.meta if env is self.meta.env else replace(self.meta, env=env)

    def caps(self, target: Target) -> list[str]:
        needs = ["exec.meta.base"]
        if self.sets_path and SETS_DEFAULT_PATH in target.caps:
            needs.append(SETS_DEFAULT_PATH)
        wanted = {
            "exec.mount.bind": any(
                mount.type == o.MountType.BIND and mount.source is not None for mount in self.mounts
            ),
            "exec.mount.selector": any(mount.selector for mount in self.mounts),
            "exec.mount.secret": bool(self.secrets),
            "exec.secretenv": any(s.env is not None for s in self.secrets),
            "exec.mount.ssh": bool(self.ssh),
            "exec.meta.network": self.network != o.NetMode.UNSET,
            "exec.meta.security": self.security != o.SecurityMode.SANDBOX,
            "exec.meta.proxyenv": self.meta.proxy_env is not None,
            "exec.meta.ulimit": bool(self.meta.ulimit),
            "exec.meta.cdi": bool(self.devices),
            "exec.validexitcode": bool(self.meta.valid_exit_codes),
            "exec.meta.linux.resources": self.options.linux_resources is not None,
            "exec.mount.cache": self._has(o.MountType.CACHE),
            "exec.mount.cache.sharing": self._has(o.MountType.CACHE),
            "exec.mount.tmpfs": self._has(o.MountType.TMPFS),
            "exec.mount.tmpfs.size": any(mount.tmpfs_size > 0 for mount in self.mounts),
            "exec.mount.cache.content": any(
                mount.content_cache != o.MountContentCache.DEFAULT for mount in self.mounts
            ),
        }
        return needs + [cap for cap, is_used in wanted.items() if is_used]

    def _has(self, kind: o.MountType) -> bool:
        return any(mount.type == kind for mount in self.mounts)


def _mount(spec: MountSpec, number: int, output: int) -> o.Mount:
    is_cache = spec.type == o.MountType.CACHE
    is_tmpfs = spec.type == o.MountType.TMPFS  # its options are written even when empty
    return o.Mount(
        input=number,
        selector=spec.selector,
        dest=spec.target,
        output=output,
        readonly=spec.readonly,
        mount_type=spec.type,
        tmpfs_opt=o.TmpfsOpt(spec.tmpfs_size) if is_tmpfs else None,
        cache_opt=o.CacheOpt(spec.cache_id, spec.sharing) if is_cache else None,
        content_cache=spec.content_cache,
    )


def _secret_mount(spec: SecretSpec) -> o.Mount:
    option = o.SecretOpt(
        id=spec.id, uid=spec.uid, gid=spec.gid, mode=spec.mode, optional=spec.optional
    )
    return o.Mount(
        input=o.EMPTY, dest=spec.target, mount_type=o.MountType.SECRET, secret_opt=option
    )


def _ssh_mount(spec: SSHSpec, number: int) -> o.Mount:
    option = o.SSHOpt(
        id=spec.id, uid=spec.uid, gid=spec.gid, mode=spec.mode, optional=spec.optional
    )
    return o.Mount(
        input=o.EMPTY,
        dest=_ssh_target(spec, number),
        mount_type=o.MountType.SSH,
        ssh_opt=option,
    )


def _ssh_target(spec: SSHSpec, number: int) -> str:
    return spec.target or f"/run/buildkit/ssh_agent.{number}"


@dataclass(frozen=True, slots=True, eq=False)
class ActionSpec:
    """A file action; `source` is the tree that a copy reads (None: scratch)."""

    action: o.FileActionKind
    source: Output | None = None
    chown_from: Output | None = None  # tree with passwd and group; None: the action's base


@dataclass(frozen=True, slots=True, eq=False)
class FileVertex:
    """A chain of file actions on one base."""

    base: Output | None
    actions: tuple[ActionSpec, ...]
    options: Options

    @property
    def visits(self) -> Sequence[Output]:
        sources = [s for a in reversed(self.actions) for s in (a.source, a.chown_from) if s]
        return sources if self.base is None else [self.base, *sources]

    def op(self, resolve: Resolve, target: Target) -> o.Op:
        inputs = _Inputs(resolve)
        first = inputs.number(self.base)
        secondary = [inputs.number(action.source) for action in self.actions]
        lookups = [inputs.number(action.chown_from) for action in self.actions]
        count = len(inputs.all())
        last = len(self.actions) - 1
        actions = []
        for position, spec in enumerate(self.actions):
            base = first if position == 0 else count + position - 1
            lookup = first if spec.chown_from is None else lookups[position]
            actions.append(
                o.FileAction(
                    input=base,
                    secondary_input=secondary[position],
                    output=0 if position == last else o.SKIP_OUTPUT,
                    action=_with_lookup(spec.action, lookup),
                )
            )
        return o.Op(
            inputs=inputs.all(),
            kind=o.FileOp(actions=tuple(actions)),
            constraints=o.Constraints(),
        )

    def caps(self, target: Target) -> list[str]:
        needs = ["file.base"]
        if any(isinstance(spec.action, o.Symlink) for spec in self.actions):
            needs.append("file.symlink.create")
        if any(isinstance(a.action, o.Rm) and a.action.allow_wildcard for a in self.actions):
            needs.append("file.rm.wildcard")
        return needs


def _with_lookup(action: o.FileActionKind, number: int) -> o.FileActionKind:
    """Put the number of the tree that names are looked up in into the action's owner."""
    from dataclasses import replace

    owner = None if isinstance(action, o.Rm) else action.owner
    if owner is None or isinstance(action, o.Rm):
        return action

    def numbered(user: o.UserOpt | None) -> o.UserOpt | None:
        if user is None or user.by_name is None:
            return user
        return o.UserOpt(by_name=o.NamedUser(user.by_name.name, number))

    return replace(action, owner=o.ChownOpt(numbered(owner.user), numbered(owner.group)))


@dataclass(frozen=True, slots=True, eq=False)
class MergeVertex:
    inputs: tuple[Output, ...]
    options: Options

    @property
    def visits(self) -> Sequence[Output]:
        return self.inputs

    def op(self, resolve: Resolve, target: Target) -> o.Op:
        resolved = tuple(resolve(output) for output in self.inputs)
        kind = o.MergeOp(tuple(o.MergeInput(number) for number in range(len(resolved))))
        return o.Op(inputs=resolved, kind=kind, constraints=o.Constraints())

    def caps(self, target: Target) -> list[str]:
        return ["mergeop"]


@dataclass(frozen=True, slots=True, eq=False)
class DiffVertex:
    lower: Output | None
    upper: Output | None
    options: Options

    @property
    def visits(self) -> Sequence[Output]:
        return [side for side in (self.lower, self.upper) if side is not None]

    def op(self, resolve: Resolve, target: Target) -> o.Op:
        resolved: list[o.Input] = []
        numbers = []
        for side in (self.lower, self.upper):
            numbers.append(o.EMPTY if side is None else len(resolved))
            if side is not None:
                resolved.append(resolve(side))
        kind = o.DiffOp(o.DiffInput(numbers[0]), o.DiffInput(numbers[1]))
        return o.Op(inputs=tuple(resolved), kind=kind, constraints=o.Constraints())

    def caps(self, target: Target) -> list[str]:
        return ["diffop"]


@dataclass(frozen=True, slots=True, eq=False)
class GivenVertex:
    """Part of a definition that came ready-made: its ops keep their bytes."""

    digest: str
    data: bytes
    inputs: tuple[Output, ...]
    metadata: o.OpMetadata
    options: Options = field(default_factory=Options)

    @property
    def visits(self) -> Sequence[Output]:
        return self.inputs

    def op(self, resolve: Resolve, target: Target) -> o.Op:
        raise AssertionError("its bytes are given")

    def caps(self, target: Target) -> list[str]:
        return []
