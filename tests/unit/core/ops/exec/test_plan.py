from __future__ import annotations

from typing import Any

import pytest

from torana.core.llb.ops import ExecOp, Meta, Mount, MountType
from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.ops.exec.plan import Content, Outcome, PlannedMount, is_below, plan_mounts

ROOT = Mount(input=0, dest="/", output=0)


def plan_of(*mounts: Mount, cwd: str = "/", count: int = 2) -> Any:
    return plan_mounts(ExecOp(meta=Meta(args=("x",), cwd=cwd), mounts=mounts), count)


def planned(**options: Any) -> PlannedMount:
    mount = Mount(**{"input": 0, "output": -1, **options})
    entries = plan_of(*([] if mount.dest == "/" else [ROOT]), mount).all
    found: PlannedMount = entries[-1]
    return found


@pytest.mark.parametrize(
    ("options", "content", "outcome"),
    [
        ({"output": 0}, Content.CHILD, Outcome.COMMIT),
        ({"output": 0, "input": -1}, Content.CHILD, Outcome.COMMIT),
        ({"output": 0, "input": -1, "readonly": True}, Content.CHILD, Outcome.COMMIT),
        ({"output": 0, "dest": "/"}, Content.CHILD, Outcome.COMMIT),
        ({"output": 0, "dest": "/", "readonly": True}, Content.CHILD, Outcome.COMMIT),
        ({"output": 0, "readonly": True}, Content.INPUT, Outcome.INPUT),
        ({"readonly": True}, Content.INPUT, Outcome.NONE),
        ({}, Content.CHILD, Outcome.NONE),
        ({"input": -1, "readonly": True}, Content.CHILD, Outcome.NONE),
        ({"dest": "/", "readonly": True}, Content.CHILD, Outcome.NONE),
        ({"mount_type": MountType.CACHE}, Content.CACHE, Outcome.NONE),
        ({"mount_type": MountType.CACHE, "output": 1}, Content.CACHE, Outcome.INPUT),
        ({"mount_type": MountType.TMPFS}, Content.TMPFS, Outcome.NONE),
        ({"mount_type": MountType.SECRET}, Content.SECRET, Outcome.NONE),
        ({"mount_type": MountType.SSH}, Content.SSH, Outcome.NONE),
    ],
)
def test_table(options: dict[str, Any], content: Content, outcome: Outcome) -> None:
    entry = planned(**{"dest": "/m", **options})
    assert (entry.content, entry.outcome) == (content, outcome)


def test_parents_come_first_and_last_duplicate_wins() -> None:
    plan = plan_of(
        Mount(input=0, dest="/z/b", output=-1),
        Mount(input=0, dest="/z", output=-1),
        ROOT,
        Mount(input=1, dest="z/", output=-1),
        Mount(input=1, dest="rel/../x", output=-1),
        cwd="/w",
    )
    assert plan.root.index == 2
    assert [(e.destination, e.index) for e in plan.others] == [
        ("/z", 1),
        ("/w/x", 4),
        ("/w/z", 3),
        ("/z/b", 0),
    ]
    again = plan_of(ROOT, Mount(input=0, dest="/z"), Mount(input=1, dest="//z/."))
    assert [e.index for e in again.others] == [2]
    assert len(again.all) == 3


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (Mount(input=2, dest="/m"), "missing input 2"),
        (Mount(input=-2, dest="/m"), "missing input -2"),
        (
            Mount(input=-1, dest="/a/..", mount_type=MountType.TMPFS),
            "invalid mount type TMPFS for /",
        ),
    ],
)
def test_refused(mount: Mount, message: str) -> None:
    with pytest.raises(InvalidExecOpError, match=message):
        plan_of(ROOT, mount)


def test_root_is_needed() -> None:
    with pytest.raises(InvalidExecOpError, match="no mount for `/`"):
        plan_of(Mount(input=0, dest="/m"))


def test_is_below() -> None:
    assert is_below("/a/b", ["/a"])
    assert is_below("/a", ["/a"])
    assert is_below("/a", ["/"])
    assert not is_below("/ab", ["/a"])
