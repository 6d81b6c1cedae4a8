"""Putting a container together: mounts of the host, files, mount points, and the spec.

Blocking; runs in one thread, and everything that it opens goes on an exit stack.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import field, replace
from pathlib import Path
from typing import Final

from torana.core.cache.ref import Tree
from torana.core.errors import NotFoundError, UnsupportedError
from torana.core.llb.ops import (
    ExecOp,
    LinuxResources,
    Meta,
    NetMode,
    SecretOpt,
    SecurityMode,
    SSHOpt,
    TmpfsOpt,
)
from torana.core.oci.platform import Platform
from torana.core.ops.exec.cdi import DeviceEdits
from torana.core.ops.exec.emulation import PLACE as EMULATOR_PLACE
from torana.core.ops.exec.emulation import find_emulator
from torana.core.ops.exec.environment import compose_environment
from torana.core.ops.exec.network_files import (
    DNSConfig,
    host_resolv_conf,
    hosts_text,
    resolv_conf_text,
)
from torana.core.ops.exec.networks import NetworkNamespace
from torana.core.ops.exec.plan import Content, MountPlan, PlannedMount, is_below
from torana.core.ops.exec.selinux import Labels, container_labels
from torana.core.ops.exec.services import StepServices
from torana.core.ops.exec.sources import Sources
from torana.core.ops.exec.stubs import (
    RUNTIME_FOLDERS,
    MountPoint,
    make_directories,
    make_point,
    make_runtime_folders,
    mount_points,
)
from torana.core.ops.exec.users import home_of, resolve_user
from torana.core.ops.runtime import ContainerMount, ContainerNetwork, ContainerSpec, User
from torana.core.records import dataclass
from torana.core.snapshots.namespace import has_ids
from torana.core.snapshots.rootfs import clean, resolve

HOSTNAME: Final = "buildkitsandbox"
_TMPFS_MODE: Final = 0o1777
_SAFE: Final = ("nosuid", "nodev", "noexec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """What a container is made of; `directory` is its folder, in memory."""

    op: ExecOp
    plan: MountPlan
    inputs: Sequence[Tree | None]
    sources: Sources
    services: StepServices
    id: str
    directory: Path
    resources: LinuxResources | None = None
    devices: DeviceEdits = field(default_factory=DeviceEdits)
    platform: Platform | None = None  # None: this machine's
    network: NetworkNamespace | None = None  # of a step that asks for no network in particular


def assemble(parts: Assembly, stack: ExitStack) -> ContainerSpec:
    """Mount and write what the container needs, and give its spec.

    Raises:
        NotFoundError: a selector names nothing in its source.
        InvalidExecOpError: an unknown user, or an address that is none.
    """
    return Assembler(parts, stack).assemble(parts.op, parts.sources.secret_env)


class Assembler:
    """Mounts trees on demand, each once; what it opens is closed by `stack`."""

    def __init__(self, parts: Assembly, stack: ExitStack) -> None:
        self._parts = parts
        self._stack = stack
        self._meta = Meta()
        self._trees: dict[int, Path] = {}  # what is shown of each mount
        self._inputs: dict[int, Path] = {}  # inputs that are shown, once for all their mounts
        self._emulator = None if parts.platform is None else find_emulator(parts.platform)
        match parts.op.network:
            case NetMode.HOST:
                self._network = ContainerNetwork.HOST
            case NetMode.NONE:
                self._network = ContainerNetwork.NONE
            case _ if parts.network is not None:
                self._network = ContainerNetwork.SANDBOX
            case _:
                self._network = ContainerNetwork.HOST

    def assemble(
        self,
        op: ExecOp,
        secret_env: Sequence[tuple[str, str]],
        binds: Sequence[ContainerMount] = (),
    ) -> ContainerSpec:
        """Give the spec for the process of `op`, whose mounts and network are those of `parts`.

        `binds` are further mounts, of this machine.
        """
        parts, devices = self._parts, self._parts.devices
        meta = self._meta = op.meta or Meta()
        rootfs = self.tree(parts.plan.root)
        user = resolve_user(meta.user, rootfs)
        traces = parts.services.traces
        trace_environment = {} if traces is None else traces.environment()
        _check_ids(user)
        mounts = self._mounts(binds)
        points = _missing_points(mounts, removes_parents=meta.remove_mount_stubs_recursive)
        self._stack.enter_context(mount_points(rootfs, points))
        # These stay, as in BuildKit. Runtimes that make them choose modes of their own.
        make_runtime_folders(rootfs)
        for tree, point in self._points_in_trees(mounts):
            make_point(tree, point)
        cwd = clean(meta.cwd)
        make_directories(rootfs, cwd, user.uid, user.gid)
        is_insecure = op.security is SecurityMode.INSECURE
        labels = Labels()
        if parts.services.has_selinux:
            labels = container_labels(is_insecure=is_insecure)
        directory = parts.directory / "bundle"
        directory.mkdir(0o700)
        return ContainerSpec(
            id=parts.id,
            directory=directory,
            rootfs=rootfs,
            args=meta.args if self._emulator is None else (EMULATOR_PLACE, *meta.args),
            env=compose_environment(
                (*meta.env, *devices.env),
                meta.proxy_env,
                secret_env,
                defaults={"HOME": home_of(user.uid, rootfs), **trace_environment},
            ),
            cwd=cwd,
            user=replace(user, groups=(*user.groups, *devices.groups)),
            hostname=meta.hostname or HOSTNAME,
            readonly_rootfs=parts.plan.root.readonly,
            mounts=tuple(mounts),
            network=self._network,
            network_namespace=None if parts.network is None else parts.network.path,
            insecure=is_insecure,
            ulimits=meta.ulimit,
            cgroup_parent=meta.cgroup_parent or parts.services.cgroup_parent,
            resources=parts.services.limits.narrow(parts.resources),
            devices=devices.nodes,
            hooks=devices.hooks,
            apparmor_profile=parts.services.apparmor_profile,
            selinux_label=labels.process,
            mount_label=labels.files,
            pids_limit=parts.services.limits.pids,
        )

    def _mounts(self, binds: Sequence[ContainerMount]) -> list[ContainerMount]:
        """Give the mounts, parents first; those of the op replace or hide the network's files."""
        of_op = list(filter(None, map(self._mount, self._parts.plan.others)))
        hiding = [mount.destination for mount in of_op]
        files = [file for file in self._network_files() if not is_below(file.destination, hiding)]
        traces = self._parts.services.traces
        sockets = [] if traces is None else [traces.mount()]
        wanted = [*files, *sockets, *binds, *self._parts.devices.mounts, *of_op]
        if self._emulator is not None:
            source = str(self._emulator)
            wanted.append(
                ContainerMount(destination=EMULATOR_PLACE, source=source, options=("ro",))
            )
        latest = {mount.destination: mount for mount in wanted}
        return sorted(latest.values(), key=lambda mount: mount.destination.count("/"))

    def _mount(self, entry: PlannedMount) -> ContainerMount | None:
        sources, index = self._parts.sources, entry.index
        match entry.content:
            case Content.TMPFS:
                options = ["nosuid"]
                if entry.readonly:
                    options.append("ro")
                size = (entry.mount.tmpfs_opt or TmpfsOpt()).size
                if size:
                    options.append(f"size={size}")
                options.append(f"mode={self._mode_at(entry.destination):o}")
                return ContainerMount(
                    destination=entry.destination, kind="tmpfs", options=tuple(options)
                )
            case Content.SECRET:
                value = sources.secrets.get(index)
                return None if value is None else self._secret(entry, value)
            case Content.SSH:
                socket = sources.sockets.get(index)
                return None if socket is None else self._ssh(entry, socket)
            case _:
                return ContainerMount(
                    destination=entry.destination,
                    source=str(self.tree(entry)),
                    options=("ro",) if entry.readonly else (),
                )

    def _mode_at(self, destination: str) -> int:
        """Give the mode of a tmpfs: that of the directory below it, which runtimes differ in."""
        root = os.fsencode(self.tree(self._parts.plan.root))
        try:
            return stat.S_IMODE(os.lstat(resolve(root, os.fsencode(destination))).st_mode)
        except OSError:
            return _TMPFS_MODE

    def _points_in_trees(
        self, mounts: Sequence[ContainerMount]
    ) -> Iterator[tuple[Path, MountPoint]]:
        """Give mount points that lie in a writable tree which is mounted itself, and that tree."""
        trees = {str(path) for path in self._trees.values()}
        for mount in mounts:
            above = [
                other
                for other in mounts
                if other is not mount and is_below(mount.destination, [other.destination])
            ]
            if not above:
                continue
            top = max(above, key=lambda other: len(other.destination))
            if top.source in trees and "ro" not in top.options:
                inside = mount.destination[len(top.destination) :]
                is_directory = _is_directory(mount)
                yield Path(top.source), MountPoint(destination=inside, is_directory=is_directory)

    def tree(self, entry: PlannedMount) -> Path:
        """Give the directory or file of a mount that shows a tree, or part of it.

        Raises:
            NotFoundError: the selector names nothing.
        """
        path = self._trees.get(entry.index)
        if path is None:
            path = self._trees[entry.index] = self._mounted(entry)
        return path

    def _mounted(self, entry: PlannedMount) -> Path:
        match entry.content:
            case Content.CACHE:
                top = self._parts.sources.caches[entry.index]
            case Content.CHILD:
                top = self._stack.enter_context(self._parts.sources.children[entry.index].mount())
            case _:
                top = self._input(entry.mount.input)
        selector = clean(entry.mount.selector)
        if selector == "/":
            return top
        path = resolve(os.fsencode(top), os.fsencode(selector))
        if not os.path.lexists(path):
            raise NotFoundError(
                f"mount `{entry.destination}`: no such path in its source: `{entry.mount.selector}`"
            )
        return Path(os.fsdecode(path))

    def _input(self, index: int) -> Path:
        path = self._inputs.get(index)
        if path is None:
            tree = self._parts.inputs[index]
            if tree is None:
                path = self._parts.directory / f"scratch-{index}"
                path.mkdir(0o755)
                path.chmod(0o755)
            else:
                path = self._stack.enter_context(tree.mount())
            self._inputs[index] = path
        return path

    def _secret(self, entry: PlannedMount, value: bytes) -> ContainerMount:
        options = entry.mount.secret_opt or SecretOpt()
        path = self._parts.directory / f"secret-{entry.index}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(value)
        os.chown(path, options.uid, options.gid)
        os.chmod(path, options.mode & 0o777)
        flags = ["ro", "nosuid", "nodev"]
        if not options.mode & 0o111:
            flags.append("noexec")
        return ContainerMount(destination=entry.destination, source=str(path), options=tuple(flags))

    def _ssh(self, entry: PlannedMount, socket: Path) -> ContainerMount:
        options = entry.mount.ssh_opt or SSHOpt()
        os.chown(socket, options.uid, options.gid)
        os.chmod(socket, options.mode & 0o777)
        return ContainerMount(destination=entry.destination, source=str(socket), options=_SAFE)

    def _network_files(self) -> list[ContainerMount]:
        hostname = self._meta.hostname or HOSTNAME
        shares_host = self._network is ContainerNetwork.HOST
        texts = {
            "resolv.conf": resolv_conf_text(
                host_resolv_conf(), self._dns(), keeps_loopback=shares_host
            ),
            "hosts": hosts_text(hostname, self._meta.extra_hosts),
        }
        found = []
        for name, text in texts.items():
            path = self._parts.directory / name
            path.write_text(text)
            path.chmod(0o644)
            found.append(
                ContainerMount(destination=f"/etc/{name}", source=str(path), options=("ro", *_SAFE))
            )
        return found

    def _dns(self) -> DNSConfig | None:
        """Give the worker's settings, with the network's own servers where it has none."""
        dns, network = self._parts.services.dns, self._parts.network
        if network is None or not network.nameservers or (dns is not None and dns.nameservers):
            return dns
        return replace(dns or DNSConfig(), nameservers=network.nameservers)


def _check_ids(user: User) -> None:
    """Refuse a user that this user namespace does not have, which runtimes say in riddles."""
    if not all(has_ids(user.uid, gid) for gid in (user.gid, *user.groups)):
        raise UnsupportedError(
            f"no such user in this user namespace: {user.uid}:{user.gid}",
            hint="give this user a range of ids in /etc/subuid and /etc/subgid, and `newuidmap`",
        )


def _missing_points(mounts: Sequence[ContainerMount], *, removes_parents: bool) -> list[MountPoint]:
    """Give the mount points that lie in the root itself, not in what is mounted over it."""
    found = []
    for mount in mounts:
        others = [other.destination for other in mounts if other is not mount]
        covers = [*others, *RUNTIME_FOLDERS]
        if is_below(mount.destination, [c for c in covers if c != mount.destination]):
            continue
        always = mount.destination in ("/etc/resolv.conf", "/etc/hosts")
        found.append(
            MountPoint(
                destination=mount.destination,
                is_directory=_is_directory(mount),
                removes_parents=removes_parents or always,
                mode=_TMPFS_MODE if mount.kind == "tmpfs" else 0o755,
            )
        )
    return found


def _is_directory(mount: ContainerMount) -> bool:
    return mount.kind != "bind" or os.path.isdir(mount.source)
