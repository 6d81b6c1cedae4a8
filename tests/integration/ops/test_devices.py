"""Devices of the machine in real containers."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration import who

from torana.core.llb.ops import CDIDevice
from torana.core.ops.exec.cdi import Devices

pytestmark = pytest.mark.needs("root", "runc", "crun", "busybox")

# Writing to it needs no right; only the device must be usable.
KMSG = {"path": "/dev/mine", "hostPath": "/dev/kmsg", "fileMode": 0o600}


@who.devices
@pytest.mark.skipif(not os.path.exists("/dev/kmsg"), reason="the machine has no /dev/kmsg")
async def test_device(steps: Any, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/driver").write_text("driver")
    edits = {
        "env": ["VISIBLE=all"],
        "deviceNodes": [KMSG],
        "mounts": [
            {"hostPath": str(tmp_path / "lib"), "containerPath": "/driver", "options": ["ro"]}
        ],
        "additionalGids": [4242],
    }
    file = {"kind": "acme.com/log", "devices": [{"name": "one", "containerEdits": edits}]}
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi/acme.json").write_text(json.dumps(file))
    steps.services = replace(steps.services, devices=Devices((tmp_path / "cdi",)))
    script = """
        : > /dev/mine
        cat /driver/driver; echo " $VISIBLE $(id -G)"
        ! touch /driver/x 2>/dev/null
    """
    await steps.run(script, cdi_devices=(CDIDevice("acme.com/log"),))
    assert steps.log.text(1) == "driver all 0 4242\n"
    # Without it the same node is of no use.
    await steps.run("test ! -e /dev/mine; mknod /tmp/k c 1 11; ! (: > /tmp/k) 2>/dev/null")
    optional = (CDIDevice("acme.com/other", optional=True),)
    await steps.run("test ! -e /dev/mine", cdi_devices=optional)


@pytest.mark.differs(bubblewrap="bubblewrap runs no hooks, and says so")
async def test_hooks(steps: Any, tmp_path: Path) -> None:
    """Programs of the machine run around the container."""
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ncat > {tmp_path}/state; echo $1 > {tmp_path}/said\n")
    hook.chmod(0o755)
    edits = {"hooks": [{"hookName": "createRuntime", "path": str(hook), "args": ["hook", "hello"]}]}
    file = {"kind": "acme.com/log", "devices": [{"name": "one", "containerEdits": edits}]}
    (tmp_path / "acme.json").write_text(json.dumps(file))
    steps.services = replace(steps.services, devices=Devices((tmp_path,)))
    await steps.run("true", cdi_devices=(CDIDevice("acme.com/log=one"),))
    assert (tmp_path / "said").read_text() == "hello\n"
    assert json.loads((tmp_path / "state").read_text())["ociVersion"]
