"""Which devices a name means, who may have them, and what they change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from torana.core.errors import UnsupportedError
from torana.core.llb.ops import CDIDevice
from torana.core.ops.exec.cdi import DeviceEdits, Devices, InvalidDeviceError
from torana.core.ops.exec.entitlements import NotEntitledError
from torana.core.ops.runtime import ContainerMount, DeviceNode, Hook

NODE = {"path": "/dev/x", "type": "c", "major": 1, "minor": 2}
FIRST = {
    "cdiVersion": "0.6.0",
    "kind": "acme.com/gpu",
    "annotations": {"org.mobyproject.buildkit.device.class": "big"},
    "containerEdits": {"env": ["A=1"], "hooks": [{"hookName": "createContainer", "path": "/h"}]},
    "devices": [
        {"name": "one", "containerEdits": {"deviceNodes": [NODE]}},
        {
            "name": "two",
            "annotations": {"org.mobyproject.buildkit.device.autoallow": "true"},
            "containerEdits": {"env": ["B=2"], "additionalGids": [7]},
        },
    ],
}
SECOND = """
cdiVersion: 0.6.0
kind: acme.com/nic
devices:
- name: "0"
  containerEdits:
    mounts:
    - {hostPath: /lib/nic, containerPath: /nic, options: [ro, rbind, nosuid]}
- name: "*"
"""


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    (tmp_path / "a.json").write_text(json.dumps(FIRST))
    (tmp_path / "b.yaml").write_text(SECOND)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.yml").write_text("kind: [")
    (tmp_path / "other.json").write_text('{"kind": "no-vendor", "devices": []}')
    (tmp_path / "read.me").write_text("not read")
    return Devices.from_environment({"TORANA_CDI_SPEC_DIRS": f"/nope:{tmp_path}"})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("acme.com/gpu=one", ["one"]),
        ("acme.com/gpu=*", ["one", "two"]),
        ("acme.com/gpu", ["one"]),
        ("acme.com/nic", ["*"]),
        ("big", ["one", "two"]),
        ("acme.com/gpu=three", []),
        ("acme.com/other", []),
        ("small", []),
        ("", []),
    ],
)
def test_names(devices: Devices, name: str, found: list[str]) -> None:
    assert [device.name for device in devices.find(name)] == found


@pytest.mark.parametrize(
    ("entitlement", "name", "is_allowed"),
    [
        ("network.host", "acme.com/gpu=one", False),
        ("device", "acme.com/gpu=one", True),
        ("device=acme.com/gpu=one", "acme.com/gpu=one", True),
        ("device=acme.com/gpu", "acme.com/gpu=one", True),
        ("device=big", "acme.com/gpu", True),
        ("device=acme.com/gpu=two", "acme.com/gpu=one", False),
        ("device=acme.com/gpu=one", "acme.com/gpu=*", True),  # the other one allows itself
        ("network.host", "acme.com/gpu=two", True),
        ("network.host", "acme.com/gpu=none", True),  # said later, where it is missed
        ("device=acme.com/gpu=one,alias=mine", "mine", True),
        ("device=acme.com/gpu=one,alias=mine", "yours", True),  # there is none
        ("device=acme.com/gpu=two,alias=mine", "acme.com/gpu=one", False),
    ],
)
def test_rights(devices: Devices, entitlement: str, name: str, is_allowed: bool) -> None:
    build = devices.of_build([entitlement])
    if is_allowed:
        build.check([CDIDevice(name)])
    else:
        with pytest.raises(NotEntitledError, match=rf"device {name} is requested .* not allowed"):
            build.check([CDIDevice(name)])


def test_rights_of_the_configuration(devices: Devices) -> None:
    allowed = Devices(devices.folders, auto_allowed=frozenset({"acme.com/gpu"}))
    allowed.of_build([]).check([CDIDevice("acme.com/gpu=*")])
    names = [CDIDevice("acme.com/nic=0"), CDIDevice("acme.com/nic")]
    with pytest.raises(NotEntitledError, match=r"devices acme.com/nic=0, acme.com/nic are req"):
        allowed.of_build([]).check(names)


def test_alias_names_the_device(devices: Devices) -> None:
    build = devices.of_build(["device=acme.com/gpu=two,alias=mine"])
    assert [device.name for device in build.find("mine")] == ["two"]


def test_edits(devices: Devices) -> None:
    assert devices.edits([]) == DeviceEdits()
    assert devices.edits([CDIDevice("acme.com/gpu=*"), CDIDevice("acme.com/gpu=one")]) == (
        DeviceEdits(
            env=("A=1", "A=1", "B=2"),
            nodes=(DeviceNode(path="/dev/x", host_path="/dev/x", kind="c", major=1, minor=2),),
            hooks=(Hook(stage="createContainer", path="/h"),),
            groups=(7,),
        )
    )
    mount = ContainerMount(destination="/nic", source="/lib/nic", options=("ro", "nosuid"))
    assert devices.edits([CDIDevice("acme.com/nic=0")]).mounts == (mount,)


def test_missing(devices: Devices) -> None:
    with pytest.raises(UnsupportedError, match='required device "a/b=c" is not registered'):
        devices.edits([CDIDevice("a/b=c")])
    assert devices.edits([CDIDevice("a/b=c", optional=True)]) == DeviceEdits()


def test_node_of_the_machine(tmp_path: Path) -> None:
    def edits(node: dict[str, Any]) -> DeviceEdits:
        file = {
            "kind": "a/b",
            "devices": [{"name": "c", "containerEdits": {"deviceNodes": [node]}}],
        }
        (tmp_path / "a.json").write_text(json.dumps(file))
        return Devices((tmp_path,)).edits([CDIDevice("a/b=c")])

    (node,) = edits({"path": "/dev/mine", "hostPath": "/dev/null", "permissions": "r"}).nodes
    assert (node.kind, node.major, node.minor, node.access) == ("c", 1, 3, "r")
    with pytest.raises(InvalidDeviceError, match="no such device: /dev/there-is-none"):
        edits({"path": "/dev/there-is-none"})
    with pytest.raises(InvalidDeviceError, match="no device: /etc/passwd"):
        edits({"path": "/etc/passwd"})
    with pytest.raises(InvalidDeviceError, match="cannot be understood: 'path'"):
        edits({})
