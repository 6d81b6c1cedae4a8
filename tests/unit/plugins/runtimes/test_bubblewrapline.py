from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from torana.core.ops.runtime import ContainerMount, ContainerSpec, User
from torana.plugins.runtimes.bubblewrapline import Identity, arguments
from torana.plugins.runtimes.sharedobjects import ProgramFiles


@pytest.fixture
def spec(tmp_path: Path) -> ContainerSpec:
    (tmp_path / "run").symlink_to("/../../outside")
    return ContainerSpec(
        id="id", directory=tmp_path, rootfs=tmp_path, args=("true",), env=("A=b=c",), cwd="/w"
    )


def line(spec: ContainerSpec, identity: Identity | None = None) -> str:
    words = arguments(spec, status=5, seccomp=None if spec.insecure else 6, identity=identity)
    return " ".join(words)


def test_environment(spec: ContainerSpec) -> None:
    assert "--clearenv --setenv A b=c --chdir /w --json-status-fd 5" in line(spec)


def test_capabilities_and_filter(spec: ContainerSpec) -> None:
    assert "--seccomp 6 --cap-drop ALL --cap-add CAP_CHOWN" in line(spec)
    insecure = line(replace(spec, insecure=True))
    assert "--cap-drop" not in insecure
    assert "--seccomp" not in insecure
    assert f"--dev-bind {spec.rootfs} /" in insecure


def test_mounts_come_parents_first_and_stay_inside(spec: ContainerSpec) -> None:
    mounts = (
        ContainerMount(destination="/a/b", source="/src", options=("ro",)),
        ContainerMount(destination="/a", kind="tmpfs", options=("nosuid", "size=42", "ro")),
        ContainerMount(destination="/run/x", source="/src"),
    )
    text = line(replace(spec, mounts=mounts))
    assert "--size 42 --tmpfs /a --remount-ro /a" in text
    assert text.index("--tmpfs /a ") < text.index("--ro-bind /src /a/b")
    # A link out of the root is followed within it.
    assert "--bind /src /outside/x" in text


def test_own_mounts_are_replaced(spec: ContainerSpec) -> None:
    own = ContainerMount(destination="/dev/shm", kind="tmpfs", options=("size=1",))
    text = line(replace(spec, mounts=(own,)))
    assert text.count("--tmpfs /dev/shm") == 1
    assert "--size 1 --tmpfs /dev/shm" in text
    assert "--proc" not in line(replace(spec, mounts=(ContainerMount(destination="/proc"),)))


def test_readonly_root_comes_last(spec: ContainerSpec) -> None:
    mounts = (ContainerMount(destination="/a", source="/src"),)
    text = line(replace(spec, mounts=mounts, readonly_rootfs=True))
    assert text.index("--bind /src /a") < text.index("--remount-ro / ")


def test_identity(spec: ContainerSpec) -> None:
    files = ProgramFiles("/bin/sh", "/bin/sh", (("libx.so", "/bin/sh"),))
    identity = Identity(User(7, 8, (8, 9)), files)
    assert " ".join(identity.line()).endswith(
        "/dev/.identity/setpriv --reuid  7 --regid  8 --groups  8, 9 --inh-caps -all --"
    )
    text = line(spec, identity)
    assert "--dir /dev/.identity --ro-bind" in text
    assert "/dev/.identity/libx.so" in text
