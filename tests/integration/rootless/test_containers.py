"""Builds inside containers without privileges, made by runc with what docker gives them.

Their root is this machine's /usr, the interpreter and this project, none of which they may write.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("root", "runc", "crun", "busybox", "newuidmap")

USER = 1234  # has ranges of ids in the container
OTHER = 1235  # has none
CAPABILITIES = {
    *("CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL"),
    *("CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID"),
    *("CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"),
}
HELPERS = {"newuidmap": 7, "newgidmap": 6}  # and the capability that each needs
MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
NEW_USER = 0x10000000
# Of docker's profile what matters here: without CAP_SYS_ADMIN no namespaces and no mounts.
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["mount", "setns", "umount2", "unshare"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ERRNO",
            "args": [
                {"index": 0, "value": NEW_USER, "valueTwo": NEW_USER, "op": "SCMP_CMP_MASKED_EQ"}
            ],
        },
    ],
}
DOCKERFILE = """\
FROM scratch
COPY --chmod=755 busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN test "$(id -u)" = 0 && echo made > /made && grep -q '^Seccomp:.2' /proc/self/status
"""


@dataclass
class Container:
    """A container to be: what it may, and who is in it."""

    folder: Path
    uid: int = 0
    paths: tuple[str, ...] = ("/usr/sbin", "/usr/bin")
    members: dict[str, Any] = field(default_factory=dict)  # of `linux` in the bundle
    forbids_new_privileges: bool = False

    def build(self, dockerfile: str = DOCKERFILE) -> subprocess.CompletedProcess[str]:
        (self.folder / "build/context/Dockerfile").write_text(dockerfile)
        output = "--output=type=tar,dest=/build/out.tar"
        command = ("build", "--progress=plain", output, "/build/context")
        (self.folder / "config.json").write_text(json.dumps(self._bundle(command)))
        return subprocess.run(
            [
                *("runc", f"--root={self.folder}/state", "run", f"--bundle={self.folder}"),
                f"torana-test-{os.getpid()}",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def owners(self) -> dict[str, tuple[int, int]]:
        with tarfile.open(self.folder / "build/out.tar") as tar:
            return {member.name: (member.uid, member.gid) for member in tar}

    def _bundle(self, command: tuple[str, ...]) -> dict[str, Any]:
        rights = sorted(CAPABILITIES)
        has = {"bounding": rights} if self.uid else {}
        has = has or {name: rights for name in ("bounding", "effective", "permitted")}
        variables = {
            "PATH": ":".join(self.paths),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HOME": "/build",
            "TORANA_ROOT": "/build/store",
            "TORANA_NETWORK": "host",
            "TORANA_GC": "off",
        }
        kinds = ("pid", "ipc", "uts", "mount", "network")
        return {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {
                "args": [sys.executable, "-B", "-m", "torana", *command],
                "env": [f"{name}={value}" for name, value in variables.items()],
                "cwd": "/build",
                "user": {"uid": self.uid, "gid": self.uid},
                "capabilities": has,
                "noNewPrivileges": self.forbids_new_privileges,
            },
            "mounts": self._mounts(),
            "linux": {"namespaces": [{"type": kind} for kind in kinds], **self.members},
        }

    def _mounts(self) -> list[dict[str, Any]]:
        fresh = (("proc", "/proc"), ("tmpfs", "/dev"), ("tmpfs", "/tmp"), ("sysfs", "/sys"))
        seen = {"/usr", sys.base_prefix, sys.prefix, str(Path(__file__).parents[3])}
        shown = {path: path for path in sorted(seen)}
        shown["/opt/helpers"] = str(self.folder / "helpers")
        return [
            *({"destination": place, "type": kind, "source": kind} for kind, place in fresh),
            *(_bind(source, place, "ro") for place, source in shown.items()),
            _bind(str(self.folder / "build"), "/build", "rw"),
        ]


def _bind(source: str, destination: str, mode: str) -> dict[str, Any]:
    return {"destination": destination, "source": source, "options": ["bind", mode]}


@pytest.fixture
def container(folder: Path) -> Iterator[Container]:
    """One in which all is allowed that is needed."""
    folder.chmod(0o755)
    etc, context, helpers = (folder / part for part in ("rootfs/etc", "build/context", "helpers"))
    for path in (etc, context, helpers):
        path.mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (folder / "rootfs" / name).symlink_to(f"usr/{name}")
    people = {"root": 0, "user": USER, "other": OTHER}
    table = "".join(f"{name}:x:{id}:{id}::/build:/bin/sh\n" for name, id in people.items())
    (etc / "passwd").write_text(table)
    for file in ("subuid", "subgid"):
        (etc / file).write_text("user:100000:65536\n")
    shutil.copy("/bin/busybox", context)
    for name, number in HELPERS.items():
        program = shutil.which(name)
        assert program is not None
        shutil.copyfile(program, helpers / name)
        (helpers / name).chmod(0o755)
        # Version 2, effective: linux/capability.h
        value = struct.pack("<5I", 0x02000001, 1 << number, 0, 0, 0)
        os.setxattr(helpers / name, "security.capability", value)
    (folder / "build").chmod(0o777)
    yield Container(folder)


def test_root(container: Container) -> None:
    done = container.build(DOCKERFILE + "RUN chown 33:44 /made\n")
    assert done.returncode == 0, done.stderr
    assert container.owners()["made"] == (33, 44)


def test_user_with_ranges(container: Container) -> None:
    container.uid = USER
    container.paths = ("/opt/helpers", *container.paths)
    done = container.build(DOCKERFILE + "RUN chown 33:44 /made\n")
    assert done.returncode == 0, done.stderr
    assert container.owners()["made"] == (33, 44)
    assert "one id only" not in done.stderr


def test_user_without_ranges(container: Container) -> None:
    container.uid = OTHER
    done = container.build()
    assert done.returncode == 0, done.stderr
    assert container.owners()["made"] == (0, 0)
    assert "/etc/subuid has no line for it" in done.stderr


@pytest.mark.parametrize("forbids", [False, True], ids=["set-uid", "no-new-privileges"])
def test_helpers_that_give_nothing(container: Container, forbids: bool) -> None:
    """A set-uid program has no right in a container that the container has not."""
    container.uid = USER
    container.forbids_new_privileges = forbids
    done = container.build()
    assert done.returncode == 0, done.stderr
    assert "newuidmap failed: write to uid_map failed: Operation not permitted; " in done.stderr
    expected = "without `no-new-privileges`" if forbids else "setcap cap_setuid=ep /usr/bin/newuid"
    assert expected in done.stderr


@pytest.mark.parametrize("uid", [0, OTHER], ids=["root", "user"])
def test_no_namespaces(container: Container, uid: int) -> None:
    """Docker's default: two settings are missing, and are named together."""
    container.uid = uid
    container.members = {"seccomp": PROFILE, "maskedPaths": MASKED, "readonlyPaths": READ_ONLY}
    done = container.build()
    assert done.returncode == 1
    assert "cannot make a private namespace: operation not permitted" in done.stderr
    options = "--security-opt seccomp=unconfined --security-opt systempaths=unconfined"
    assert f"start the container with `{options}`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("uid", [0, OTHER], ids=["root", "user"])
def test_hidden_proc(container: Container, uid: int) -> None:
    container.uid = uid
    container.members = {"maskedPaths": MASKED, "readonlyPaths": READ_ONLY}
    done = container.build()
    assert done.returncode == 1
    assert "no container runtime works" in done.stderr
    assert "start the container with `--security-opt systempaths=unconfined`" in done.stderr
