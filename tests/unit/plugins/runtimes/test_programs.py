from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from torana.core.ops.runtime import ContainerMount, ContainerSpec
from torana.plugins.runtimes.programs import find_program, is_refused

ELF_OF_NOBODY = b"\x7fELF\2\1\1".ljust(16, b"\0") + b"\2\0\xfe\xca" + bytes(44)


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    made = tmp_path / "rootfs"
    (made / "usr/bin").mkdir(parents=True)
    (made / "bin").symlink_to("/usr/bin")
    _write(made / "usr/bin/tool")
    (made / "usr/bin/link").symlink_to("/bin/tool")
    _write(made / "usr/bin/data", 0o644)
    _write(tmp_path / "mounted/program")
    return made


def _write(path: Path, mode: int = 0o755) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)


@pytest.mark.parametrize(
    ("name", "cwd", "expected"),
    [
        ("tool", "/", "rootfs/usr/bin/tool"),
        ("/bin/link", "/", "rootfs/usr/bin/tool"),
        ("./tool", "/usr/bin", "rootfs/usr/bin/tool"),
        ("/bin/data", "/", None),
        ("/bin", "/", None),
        ("/bin/absent", "/", None),
        ("absent", "/", None),
        ("/mnt/program", "/", "mounted/program"),
        ("/file", "/", "mounted/program"),
        ("/empty/program", "/", None),
    ],
)
def test_find_program(
    tmp_path: Path, rootfs: Path, name: str, cwd: str, expected: str | None
) -> None:
    mounts = (
        ContainerMount(destination="/mnt", source=str(tmp_path / "mounted")),
        ContainerMount(destination="/file", source=str(tmp_path / "mounted/program")),
        ContainerMount(destination="/empty", kind="tmpfs"),
    )
    spec = ContainerSpec(
        id="x",
        directory=tmp_path,
        rootfs=rootfs,
        args=(name,),
        env=("PATH=/nowhere:/bin",),
        cwd=cwd,
        mounts=mounts,
    )
    found = find_program(spec)
    assert found == (None if expected is None else os.fsencode(tmp_path / expected))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", True),
        (b"echo text\n", True),
        (b"#!/bin/sh\n", False),
        (ELF_OF_NOBODY, True),
        (b"MZ\0\0", False),
    ],
    ids=["empty", "text", "script", "other-machine", "other-format"],
)
def test_is_refused(tmp_path: Path, content: bytes, expected: bool) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    assert is_refused(os.fsencode(program)) is expected


def test_ours_is_not_refused() -> None:
    assert not is_refused(os.fsencode(sys.executable))
    assert not is_refused(b"/absent")
