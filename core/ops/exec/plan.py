"""What each mount of an exec op is made of. Pure: refs and paths come later.

Spec: reference of exec, sections 2 and 3.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from enum import Enum

from torana.core.llb.ops import ExecOp, Mount, MountType
from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.records import dataclass
from torana.core.snapshots.rootfs import clean


class Content(Enum):
    """Where the content of a mount comes from."""

    INPUT = "input"  # the input as it is, read-only
    CHILD = "child"  # a new mutable child of the input, or of nothing
    CACHE = "cache"
    TMPFS = "tmpfs"
    SECRET = "secret"
    SSH = "ssh"


class Outcome(Enum):
    """What becomes of a mount after the run."""

    NONE = "none"
    COMMIT = "commit"
    INPUT = "input"  # the output is the input itself; scratch where there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMount:
    """One mount: `index` is its place in the op, `destination` is absolute and clean."""

    index: int
    mount: Mount
    destination: str
    content: Content
    outcome: Outcome
    readonly: bool

    @property
    def is_root(self) -> bool:
        return self.destination == "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPlan:
    """The mounts of an op.

    `all` is in the op's order, which is the order of outputs. `root` has destination `/`, and
    `others` are parents first; of several with one destination the last is left.
    """

    all: tuple[PlannedMount, ...]
    root: PlannedMount
    others: tuple[PlannedMount, ...]


def plan_mounts(op: ExecOp, input_count: int) -> MountPlan:
    """Plan the mounts of `op`.

    Raises:
        InvalidExecOpError: an input that is not there, a root that is no bind, or no root.
    """
    cwd = op.meta.cwd if op.meta is not None else "/"
    planned = tuple(_plan(i, mount, cwd, input_count) for i, mount in enumerate(op.mounts))
    by_destination = {entry.destination: entry for entry in planned}
    root = by_destination.pop("/", None)
    if root is None:
        raise InvalidExecOpError("no mount for `/`")
    others = sorted(by_destination.values(), key=lambda entry: _order(entry.destination))
    return MountPlan(all=planned, root=root, others=tuple(others))


def is_below(path: str, parents: Sequence[str]) -> bool:
    """Say whether `path` lies at or in one of `parents`."""
    return any(path == parent or path.startswith(parent.rstrip("/") + "/") for parent in parents)


def _order(path: str) -> tuple[int, str]:
    return path.count("/"), path


def _plan(index: int, mount: Mount, cwd: str, input_count: int) -> PlannedMount:
    if mount.input != -1 and not 0 <= mount.input < input_count:
        raise InvalidExecOpError(f"missing input {mount.input}")
    destination = clean(posixpath.join("/", cwd, mount.dest))
    kind = mount.mount_type
    if destination == "/" and kind is not MountType.BIND:
        raise InvalidExecOpError(f"invalid mount type {kind.name} for /")
    content, outcome = _bind(mount, destination) if kind is MountType.BIND else _special(mount)
    return PlannedMount(
        index=index,
        mount=mount,
        destination=destination,
        content=content,
        outcome=outcome,
        readonly=mount.readonly,
    )


def _bind(mount: Mount, destination: str) -> tuple[Content, Outcome]:
    has_output = mount.output != -1
    # A read-only root gets a layer of its own all the same, for mount points to be made in.
    if mount.readonly and mount.input != -1 and destination != "/":
        return Content.INPUT, Outcome.INPUT if has_output else Outcome.NONE
    return Content.CHILD, Outcome.COMMIT if has_output else Outcome.NONE


def _special(mount: Mount) -> tuple[Content, Outcome]:
    content = {
        MountType.CACHE: Content.CACHE,
        MountType.TMPFS: Content.TMPFS,
        MountType.SECRET: Content.SECRET,
        MountType.SSH: Content.SSH,
    }[mount.mount_type]
    return content, Outcome.INPUT if mount.output != -1 else Outcome.NONE
