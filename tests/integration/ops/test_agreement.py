"""What BuildKit's containers show, where runtimes left alone differ from it and each other."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from tests.integration import who

from torana.core.llb.ops import Mount, MountType, TmpfsOpt
from torana.core.ops.exec.errors import ExecError, InvalidExecOpError

pytestmark = pytest.mark.needs("root", "runc", "crun", "busybox")


def bind(dest: str, input: int, **options: Any) -> Mount:
    return Mount(**{"input": input, "dest": dest, "output": -1, **options})


def tmpfs(dest: str) -> Mount:
    return Mount(
        input=-1, output=-1, dest=dest, mount_type=MountType.TMPFS, tmpfs_opt=TmpfsOpt(1 << 20)
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


async def test_folders_of_the_runtime(steps: Any) -> None:
    """They stay in the layer, and so have one mode, whichever runtime."""
    (out,) = await steps.run("true")
    assert {name: mode(out.path / name) for name in ("dev", "proc", "sys")} == {
        "dev": 0o755,
        "proc": 0o755,
        "sys": 0o755,
    }


async def test_mount_points_in_a_mounted_tree(steps: Any) -> None:
    """They are part of what is mounted, and of its output."""
    mounts = [
        Mount(input=-1, output=1, dest="/m"),
        tmpfs("/m/deep/folder"),
        bind("/m/file", 0, readonly=True, selector="/bin/busybox"),
    ]
    _, out = await steps.run("ls -d /m/deep/folder; ls -s /m/file > /dev/null", *mounts)
    assert steps.log.text() == "/m/deep/folder\n"
    assert mode(out.path / "deep") == mode(out.path / "deep/folder") == 0o755
    assert (out.path / "file").stat().st_size == 0


@pytest.mark.differs(bubblewrap="it finds no way through links of what it mounts")
async def test_mount_points_behind_a_link_of_a_mounted_tree(steps: Any) -> None:
    """The link means a place in the root; nothing is made in the tree under that name."""
    tree = steps.refs.tree()
    (tree.path / "way").symlink_to("/tmp")
    mounts = [Mount(input=1, output=1, dest="/m"), tmpfs("/m/way/t")]
    (steps.base.path / "tmp/t").mkdir(parents=True)
    _, out = await steps.run("grep -c ' /tmp/t ' /proc/mounts", *mounts, trees=[tree])
    assert steps.log.text() == "1\n"
    assert [path.name for path in out.path.iterdir()] == ["way"]


async def test_modes_of_tmpfs(steps: Any) -> None:
    """That of the directory below it, else one for all."""
    for name, bits in (("narrow", 0o700), ("wide", 0o777)):
        (steps.base.path / name).mkdir()
        (steps.base.path / name).chmod(bits)
    await steps.run(
        "stat -c '%n %a' /narrow /wide /new", tmpfs("/narrow"), tmpfs("/wide"), tmpfs("/new")
    )
    assert steps.log.text() == "/narrow 700\n/wide 777\n/new 1777\n"


async def test_a_mount_at_etc_hides_the_files_of_the_network(steps: Any) -> None:
    tree = steps.refs.tree()
    (tree.path / "own").write_text("")
    await steps.run("ls -A /etc", bind("/etc", 1, readonly=True), trees=[tree])
    await steps.run("ls -A /etc | wc -l", tmpfs("/etc"))
    assert steps.log.text() == "own\n0\n"


@who.other_users
async def test_homes(steps: Any) -> None:
    (steps.base.path / "etc").mkdir(exist_ok=True)
    (steps.base.path / "etc/passwd").write_text("ann:x:1001:1002::/home/ann:/bin/sh\n")
    for user in ("ann", "1001", "4444", "4444:5555", ""):
        await steps.run("echo $HOME", meta={"user": user})
    await steps.run("echo $HOME", meta={"user": "ann", "env": ("PATH=/bin", "HOME=/own")})
    assert steps.log.text().split() == ["/home/ann", "/home/ann", "/", "/", "/", "/own"]


async def test_what_the_image_lacks_names_the_process(steps: Any) -> None:
    with pytest.raises(
        InvalidExecOpError, match=r'process "id -u" did not complete .*: unable to find user zoe'
    ):
        await steps.run("", args=("id", "-u"), meta={"user": "zoe"})
    (steps.base.path / "etc").mkdir(exist_ok=True)
    (steps.base.path / "etc/passwd").unlink(missing_ok=True)
    (steps.base.path / "etc/passwd").mkdir()
    with pytest.raises(InvalidExecOpError, match="not a regular file: `/etc/passwd`"):
        await steps.run("", args=("id", "-u"), meta={"user": "zoe"})


async def test_a_program_that_cannot_be_executed(steps: Any) -> None:
    """The reason is told as a sentence, not as a record of the runtime's log."""
    program = steps.base.path / "program"
    program.write_text("#!/bin/nothing\n")
    program.chmod(0o755)
    with pytest.raises(ExecError, match="did not complete successfully: exit code: 1"):
        await steps.run("", args=("/program",))
    assert "o such file or directory" in steps.log.text()
    assert '"msg"' not in steps.log.text()


@who.other_users
async def test_a_number_is_no_name_of_the_image(steps: Any) -> None:
    """Else the image, not the build file, would say who a step runs as."""
    (steps.base.path / "etc").mkdir(exist_ok=True)
    (steps.base.path / "etc/passwd").write_text("1001:x:0:0::/:/bin/sh\n 1001:x:0:0::/:/bin/sh\n")
    if steps.services.runtime.name != "runc":  # up to 1.1 it looks up supplementary groups
        (steps.base.path / "etc/group").write_text("1002:x:0:\n 1002:x:0:\n")
    for user in ("1001:1002", "1001"):
        await steps.run("echo $(id -u) $(id -g) $(id -G)", meta={"user": user})
    assert steps.log.text() == "1001 1002 1002\n1001 0 0\n"
