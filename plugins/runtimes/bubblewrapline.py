"""Options of bubblewrap for a container. Pure, but for looking at what /proc and /sys have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from torana.core.ops.runtime import ContainerMount, ContainerSpec, User
from torana.core.records import dataclass
from torana.core.snapshots.rootfs import resolve
from torana.plugins.runtimes.sharedobjects import ProgramFiles
from torana.plugins.runtimes.spec import (
    CAPABILITIES,
    MASKED_PATHS,
    PRIVILEGED_NODES,
    READONLY_PATHS,
)

_IDENTITY_FOLDER: Final = "/dev/.identity"
_SHM_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """The user of a process that is not root, and the `setpriv` that gives it its ids."""

    user: User
    files: ProgramFiles

    def binds(self) -> Iterator[str]:
        """Give the options that show `setpriv` to the container, which may see it but not change
        it."""
        yield from ("--dir", _IDENTITY_FOLDER)
        shown = (
            ("loader", self.files.loader),
            ("setpriv", self.files.program),
            *self.files.libraries,
        )
        for name, path in shown:
            yield from ("--ro-bind", os.path.realpath(path), f"{_IDENTITY_FOLDER}/{name}")

    def line(self) -> tuple[str, ...]:
        """Give the words that stand before the process's own."""
        user, folder = self.user, _IDENTITY_FOLDER
        groups = ",".join(map(_number, dict.fromkeys((user.gid, *user.groups))))
        return (
            *(f"{folder}/loader", "--library-path", folder, f"{folder}/setpriv"),
            *("--reuid", _number(user.uid), "--regid", _number(user.gid), "--groups", groups),
            *("--inh-caps", "-all", "--"),
        )


def _number(id: int) -> str:
    """Give an id as `setpriv` takes it for none of the image's names, which begin with no blank."""
    return f" {id}"


def arguments(
    spec: ContainerSpec, *, status: int, seccomp: int | None, identity: Identity | None
) -> list[str]:
    """Give all options but the command; `status` and `seccomp` are descriptors."""
    words = ["--die-with-parent", "--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts"]
    if spec.hostname:
        words += ["--hostname", spec.hostname]
    words += ["--dev-bind" if spec.insecure else "--bind", str(spec.rootfs), "/"]
    given = {mount.destination for mount in spec.mounts}
    words += _own(spec, given)
    if identity is not None:
        words += identity.binds()
    for mount in sorted(spec.mounts, key=lambda mount: mount.destination.count("/")):
        words += _mount(mount, spec)
    if spec.readonly_rootfs:
        words += ["--remount-ro", "/"]
    words.append("--clearenv")
    for entry in spec.env:
        name, _, value = entry.partition("=")
        words += ["--setenv", name, value]
    # Where bubblewrap was built without SELinux, it refuses these.
    if spec.selinux_label:
        words += ["--exec-label", spec.selinux_label]
    if spec.mount_label:
        words += ["--file-label", spec.mount_label]
    words += ["--chdir", spec.cwd, "--json-status-fd", str(status)]
    if seccomp is not None:
        words += ["--seccomp", str(seccomp), "--cap-drop", "ALL"]
        for name in CAPABILITIES:
            words += ["--cap-add", name]
    return words


def _own(spec: ContainerSpec, given: set[str]) -> Iterator[str]:
    """Give what every container has, unless its own mounts replace it."""
    if "/dev" not in given:
        yield from ("--dev", "/dev")
        if "/dev/mqueue" not in given:
            yield from ("--mqueue", "/dev/mqueue")
        if "/dev/shm" not in given:
            yield from ("--perms", "1777", "--size", str(_SHM_BYTES), "--tmpfs", "/dev/shm")
        if spec.insecure:
            for node in PRIVILEGED_NODES:
                yield from ("--dev-bind-try", node, node)
        for device in spec.devices:
            yield from ("--dev-bind", device.host_path, device.path)
    if "/proc" not in given:
        yield from ("--proc", "/proc")
    if "/sys" not in given:
        yield from ("--dev-bind" if spec.insecure else "--ro-bind", "/sys", "/sys")
    if not spec.insecure:
        yield from _closed(given)


def _closed(given: set[str]) -> Iterator[str]:
    """Give what hides and write-protects parts of /proc and /sys.

    bubblewrap itself protects some of it, but only from those who could write to the folder.
    """
    for path in READONLY_PATHS:
        if os.path.exists(path) and not given & {path, "/proc"}:
            yield from ("--ro-bind", path, path)
    for path in MASKED_PATHS:
        top = f"/{PurePosixPath(path).parts[1]}"
        if not os.path.exists(path) or given & {path, top}:
            continue
        if os.path.isdir(path):
            yield from ("--tmpfs", path, "--remount-ro", path)
        else:
            yield from ("--dev-bind", "/dev/null", path)


def _mount(mount: ContainerMount, spec: ContainerSpec) -> Iterator[str]:
    destination = _inside(mount.destination, spec)
    if mount.kind == "tmpfs":
        values = dict(option.partition("=")[::2] for option in mount.options)
        yield from ("--perms", values.get("mode", "1777"))
        if "size" in values:
            yield from ("--size", values["size"])
        yield from ("--tmpfs", destination)
        if "ro" in values:
            yield from ("--remount-ro", destination)
        return
    if "ro" in mount.options:
        yield from ("--ro-bind", mount.source, destination)
    else:
        yield from ("--dev-bind" if spec.insecure else "--bind", mount.source, destination)


def _inside(path: str, spec: ContainerSpec) -> str:
    """Follow symbolic links of the root: bubblewrap would follow them out of it."""
    root = os.fsencode(spec.rootfs)
    found = resolve(root, os.fsencode(path))
    return os.fsdecode(found[len(root.rstrip(b"/")) :]) or "/"
