"""From actions to LLB: states of stages, in the order in which stages were evaluated."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, assert_never

from torana.core.errors import BuildFileError
from torana.core.llb import ops as o
from torana.core.llb.actions import FileActions
from torana.core.llb.definition import SourceInfo
from torana.core.llb.state import State, http, image, merge, mkdir, mkfile, owner, scratch
from torana.core.llb.vertices import MountSpec, SecretSpec, SourceLocation, SSHSpec
from torana.core.records import dataclass
from torana.frontends.dockerfile.actions import (
    BindMount,
    CacheMount,
    Copy,
    GitSource,
    HttpSource,
    InlineMount,
    InlineSource,
    LocalSource,
    MakeDirectory,
    Mount,
    Owner,
    RunProcess,
    SecretMount,
    SshMount,
    Step,
    TmpfsMount,
)
from torana.frontends.dockerfile.stage import Stage
from torana.frontends.kit.options import BuildOptions
from torana.frontends.kit.sources import git_state

COMMAND_KEY: Final = "com.docker.dockerfile.v1.command"
_INLINE: Final = "[internal] preparing inline document"
_CACHE_PERMISSIONS: Final = "[internal] setting cache mount permissions"


@dataclass(slots=True, kw_only=True)
class Emitter:
    """Makes states; each stage's is made once, after those that it reads."""

    options: BuildOptions
    info: SourceInfo
    caps: frozenset[str]
    proxy: o.ProxyEnv | None
    main: Callable[[], State]
    states: dict[Stage, State] = field(default_factory=dict)
    _main: State | None = None

    def stage(self, stage: Stage) -> State:
        """Give the tree of an evaluated stage."""
        if stage not in self.states:
            for ready in _in_order(stage, self.states):
                self.states[ready] = self._emit(ready)
        return self.states[stage]

    def _emit(self, stage: Stage) -> State:
        state = self.states[stage.base] if stage.base is not None else self._begin(stage)
        for action in stage.actions:
            match action:
                case MakeDirectory():
                    state = self._make_directory(state, action)
                case Copy():
                    state = self._copy(state, action)
                case RunProcess():
                    state = self._run(state, action)
                case _:
                    assert_never(action)
        return state

    def _begin(self, stage: Stage) -> State:
        if stage.named is not None:
            return stage.named.state(stage.used.follow_paths())
        if not stage.reference:
            return scratch()
        return image(
            stage.reference,
            resolve_mode=self.options.resolve_mode,
            platform=stage.platform,
            custom_name=stage.from_name,
            description={COMMAND_KEY: stage.written},
            location=(SourceLocation(self.info, stage.ranges),),
        )

    def context(self) -> State:
        """Give the main context; one op for all stages."""
        if self._main is None:
            self._main = self.main()
        return self._main

    def _tree(self, stage: Stage | None) -> State:
        return self.context() if stage is None else self.states[stage]

    def _shown(self, step: Step) -> dict[str, Any]:
        return {
            "custom_name": step.name,
            "location": (SourceLocation(self.info, step.ranges),),
            "ignore_cache": step.ignore_cache,
        }

    def _make_directory(self, state: State, action: MakeDirectory) -> State:
        made = mkdir(
            action.path,
            mode=0o755,
            make_parents=True,
            owner=_owner(action.owner),
            timestamp_ns=action.timestamp_ns,
        )
        return state.file(made, **self._shown(action.step))

    def _copy(self, state: State, action: Copy) -> State:
        copies = FileActions()
        for source in action.sources:
            copies = self._copy_one(copies, source, action)
        shown = self._shown(action.step)
        if not action.is_link:
            return state.file(copies, **shown)
        name = action.step.name
        group = secrets.token_hex(12)
        layer = scratch().file(
            copies, **shown, progress_group=o.ProgressGroup(group, name, weak=True)
        )
        start, bracket, text = name.partition("] ")
        shown["custom_name"] = f"{start}{bracket}LINK {text}" if bracket else f"LINK {name}"
        merged = merge((state, layer), **shown, progress_group=o.ProgressGroup(group, name))
        return state.with_output(merged.output)

    def _copy_one(
        self,
        copies: FileActions,
        source: LocalSource | GitSource | HttpSource | InlineSource,
        action: Copy,
    ) -> FileActions:
        common: dict[str, Any] = {
            "owner": _owner(action.owner),
            "mode": action.mode,
            "exclude": action.exclude,
            "create_dest_path": True,
        }
        match source:
            case LocalSource():
                return copies.copy(
                    self._tree(source.stage),
                    source.path,
                    action.destination,
                    **common,
                    follow_symlink=True,
                    dir_copy_contents=True,
                    allow_wildcard=True,
                    allow_empty_wildcard=True,
                    attempt_unpack=source.unpacks,
                    include=source.include,
                    required=source.required,
                )
            case GitSource():
                tree = git_state(
                    source.ref,
                    name=action.step.name,
                    keep_git_dir=source.keeps_git_dir,
                    checksum=source.checksum,
                )
                return copies.copy(tree, "/", action.destination, **common)
            case HttpSource():
                tree = http(
                    source.url,
                    filename=source.filename,
                    checksum=source.checksum,
                    custom_name=action.step.name,
                    description={COMMAND_KEY: ""},
                )
                path = f"/{source.filename}"
                return copies.copy(
                    tree, path, action.destination, **common, attempt_unpack=source.unpacks
                )
            case InlineSource():
                path = f"/{source.name}"
                tree = scratch().file(mkfile(path, source.data, mode=0o644), custom_name=_INLINE)
                return copies.copy(tree, path, action.destination, **common)

    def _run(self, state: State, action: RunProcess) -> State:
        if not action.args:
            raise BuildFileError("arguments are required")
        options, caps = self.options, self.caps
        mounts = [spec for mount in action.mounts if (spec := self._mount(mount)) is not None]
        if options.shm_size_bytes and "exec.mount.tmpfs.size" in caps:
            mounts.append(
                MountSpec(
                    target="/dev/shm",
                    type=o.MountType.TMPFS,
                    tmpfs_size=options.shm_size_bytes,
                )
            )
        has_resources = "exec.meta.linux.resources" in caps
        devices = [o.CDIDevice(device.name, device.is_optional) for device in action.devices]
        executed = state.run(
            action.args,
            env=action.env,
            cwd=action.cwd,
            user=action.user,
            hostname=options.hostname,
            network=action.network,
            security=action.security,
            extra_hosts=options.extra_hosts,
            ulimit=options.ulimits if "exec.meta.ulimit" in caps else (),
            cgroup_parent=options.cgroup_parent if "exec.meta.cgroup.parent" in caps else "",
            proxy_env=self.proxy,
            remove_mount_stubs_recursive=True,
            mounts=mounts,
            secrets=[_secret(m) for m in action.mounts if isinstance(m, SecretMount)],
            ssh=[_agent(m) for m in action.mounts if isinstance(m, SshMount)],
            devices=devices if "exec.meta.cdi" in caps else (),
            platform=action.platform,
            linux_resources=options.resources if has_resources else None,
            description={COMMAND_KEY: action.step.command},
            **self._shown(action.step),
        )
        return state.with_output(executed.root.output)

    def _mount(self, mount: Mount) -> MountSpec | None:
        match mount:
            case BindMount():
                return MountSpec(
                    target=mount.target,
                    source=self._tree(mount.stage).output,
                    selector=_selector(mount.source),
                    readonly=mount.read_only,
                    no_output="exec.mount.bind.readwrite-nooutput" in self.caps,
                )
            case CacheMount():
                return self._cache(mount)
            case TmpfsMount():
                return MountSpec(
                    target=mount.target, type=o.MountType.TMPFS, tmpfs_size=mount.size_bytes
                )
            case InlineMount():
                script = mkfile(f"/{mount.name}", mount.data, mode=0o755)
                tree = scratch().file(script, custom_name=_INLINE)
                return MountSpec(
                    target=mount.target, source=tree.output, selector="/", readonly=True
                )
            case _:
                return None

    def _cache(self, mount: CacheMount) -> MountSpec:
        tree = scratch() if mount.stage is None else self.states[mount.stage]
        selector = _selector(mount.source)
        if mount.made is not None:
            mode, uid, gid = mount.made
            made = mkdir("/cache", mode=mode, owner=owner(uid, gid))
            tree = tree.file(made, custom_name=_CACHE_PERMISSIONS)
            selector = "/cache"
        return MountSpec(
            target=mount.target,
            source=tree.output,
            selector=selector,
            readonly=mount.read_only,
            type=o.MountType.CACHE,
            cache_id=mount.id,
            sharing=mount.sharing,
        )


def _in_order(target: Stage, done: Mapping[Stage, State]) -> Sequence[Stage]:
    """Give the stages that `target` needs, what is read first. Iterative: chains are long."""
    ordered: list[Stage] = []
    entered: set[Stage] = set(done)
    stack: list[tuple[Stage, bool]] = [(target, False)]
    while stack:
        stage, is_left = stack.pop()
        if is_left:
            ordered.append(stage)
        elif stage not in entered:
            entered.add(stage)
            stack.append((stage, True))
            if stage.base is not None:
                stack.append((stage.base, False))
            stack += [(read, False) for read in stage.reads]
    return ordered


def _selector(source: str) -> str:
    return "" if source == "/" else source


def _owner(who: Owner | None) -> o.ChownOpt | None:
    return None if who is None else owner(who.user, who.group)


def _secret(mount: SecretMount) -> SecretSpec:
    return SecretSpec(
        id=mount.id,
        target=mount.target,
        env=mount.env,
        uid=mount.uid,
        gid=mount.gid,
        mode=mount.mode,
        optional=mount.is_optional,
    )


def _agent(mount: SshMount) -> SSHSpec:
    return SSHSpec(
        id=mount.id,
        target=mount.target,
        uid=mount.uid,
        gid=mount.gid,
        mode=mount.mode,
        optional=mount.is_optional,
    )
