"""Steps that try to get out: each attempt is made in a real container, and contained.

The table in `docs/security.md` names these tests.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

import pytest

from torana.core.llb.ops import (
    CacheOpt,
    CacheSharing,
    LinuxResources,
    Mount,
    MountType,
    SecretEnv,
    SecretOpt,
)
from torana.core.ops.exec.errors import ExecError
from torana.core.ops.exec.limits import StepLimits

pytestmark = pytest.mark.needs("root", "runc", "crun", "busybox")

PLANTED = "planted-8a1f55c0"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder of the machine that nothing may change."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("untouched")
    yield folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"file": "untouched"}


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this machine with a planted secret in its environment."""
    with subprocess.Popen(["sleep", "1000"], env={"S": PLANTED}) as process:
        yield process
        assert process.poll() is None, "a step has killed it"
        process.kill()


def bind(dest: str, input: int, **options: Any) -> Mount:
    return Mount(**{"input": input, "dest": dest, "output": -1, **options})


def cache(dest: str, id: str, sharing: CacheSharing = CacheSharing.SHARED) -> Mount:
    return Mount(
        input=-1,
        output=-1,
        dest=dest,
        mount_type=MountType.CACHE,
        cache_opt=CacheOpt(id=id, sharing=sharing),
    )


def lines(steps: Any) -> list[str]:
    return cast("str", steps.log.text()).split()


# Every line of a script is an attempt; it says `out` if it got somewhere. What would change the
# machine is only opened for writing.
ATTEMPTS = {
    "mount": """
        mount -t tmpfs tmpfs /tmp && echo out
        mount -t proc proc /tmp && echo out
        mount -o remount,rw /proc/sys && echo out
        mount -o bind /proc /tmp && echo out
        umount /proc/sys && echo out
        umount -l /proc/kcore && echo out
        chroot /proc/1/root mount -t tmpfs tmpfs /tmp && echo out
    """,
    "namespaces": """
        unshare -m true && echo out
        unshare -U true && echo out
        unshare -r -m true && echo out
        unshare -p -f true && echo out
        unshare -n true && echo out
        nsenter -t 1 -m true && nsenter -t 2 -m true && echo out
    """,
    "proc": """
        (: >> /proc/sysrq-trigger) && echo out
        (: >> /proc/sys/kernel/core_pattern) && echo out
        (: >> /proc/sys/kernel/randomize_va_space) && echo out
        (: >> /proc/sys/kernel/hostname) && echo out
        dd if=/proc/kcore of=/dev/null bs=16 count=1 | grep . && echo out
        test -s /proc/keys && echo out
        test -s /proc/timer_list && echo out
        for d in /proc/acpi /proc/scsi /sys/firmware; do ls $d | grep . && echo out; done
        echo -1000 > /proc/self/oom_score_adj && echo out
        (: >> /proc/irq/default_smp_affinity) && echo out
    """,
    "devices": """
        mknod /tmp/disk b 8 0 && dd if=/tmp/disk of=/dev/null count=1 && echo out
        mknod /tmp/disk2 b 254 0 && dd if=/tmp/disk2 of=/dev/null count=1 && echo out
        mknod /tmp/mem c 1 1 && dd if=/tmp/mem of=/dev/null count=1 && echo out
        mknod /tmp/port c 1 4 && dd if=/tmp/port of=/dev/null count=1 && echo out
        mknod /tmp/kmsg c 1 11 && dd if=/tmp/kmsg of=/dev/null count=1 && echo out
        mknod /tmp/fuse c 10 229 && (: <> /tmp/fuse) && echo out
        for f in mem kmem port kmsg sda vda fuse loop0 kvm; do test -e /dev/$f && echo out; done
    """,
    "cgroups": """
        for g in /sys/fs/cgroup /sys/fs/cgroup/*; do
            test -e $g/cgroup.procs || continue
            mkdir $g/mine && echo out
            echo 0 > $g/cgroup.procs && echo out
            echo 0 > $g/tasks && echo out
            echo max > $g/pids.max && echo out
            (: >> $g/devices.allow) && echo out
            (: >> $g/release_agent) && echo out
            (: >> $g/notify_on_release) && echo out
        done
        mount -o remount,rw /sys/fs/cgroup && echo out
        mount -t cgroup -o memory cgroup /tmp && echo out
        mount -t cgroup2 cgroup2 /tmp && echo out
        unshare -C true && echo out
    """,
    "kernel": """
        (: >> /sys/kernel/uevent_helper) && echo out
        (: >> /sys/power/state) && echo out
        (: >> /sys/block/vda/queue/read_ahead_kb) && echo out
        hostname other && echo out
        test -n "$(date -s @$(date +%s) 2>&1 >/dev/null)" || echo out
        modprobe loop && echo out
        insmod /bin/busybox && echo out
        dmesg | grep . && echo out
    """,
    "network files": """
        echo 127.0.0.9 evil > /etc/hosts && echo out
        echo nameserver 1 > /etc/resolv.conf && echo out
        rm /etc/hosts && echo out
        mount -o remount,rw /etc/hosts && echo out
    """,
}


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_attempt(steps: Any, name: str) -> None:
    for applet in ("umount chroot nsenter date modprobe insmod dmesg").split():
        (steps.base.path / "bin" / applet).symlink_to("busybox")
    rows = ATTEMPTS[name].splitlines()
    script = "\n".join(row.replace("echo out", f"echo {n}") for n, row in enumerate(rows))
    await steps.run(f"set +e; exec 2>/dev/null; {script}\nexit 0")
    assert [rows[int(line)].strip() for line in lines(steps)] == []


async def test_no_other_process_is_seen(steps: Any, stranger: Any) -> None:
    """Only its own: nothing of them can be read, traced or killed."""
    script = f"""set +e
        test -e /proc/{stranger.pid} && grep -q sleep /proc/{stranger.pid}/cmdline && echo out
        kill -9 {stranger.pid} 2>/dev/null && echo out
        kill -9 -1 2>/dev/null
        cat /proc/*/environ | grep -q {PLANTED} && echo out
        for p in /proc/[0-9]*; do echo ${{p#/proc/}}; done
    """
    await steps.run(script)
    seen = lines(steps)
    assert "1" in seen
    assert all(int(pid) < 50 for pid in seen)


async def test_readonly_binds_stay_so(steps: Any) -> None:
    tree = steps.refs.tree()
    (tree.path / "file").write_text("content")
    (tree.path / "sub").mkdir()
    (tree.path / "sub/deep").write_text("content")
    script = """set +e; exec 2>/dev/null
        echo x > /ro/file && echo out
        rm -rf /ro/sub/deep; test -e /ro/sub/deep || echo out
        mount -o remount,rw,bind /ro && echo out
        mount -o remount,rw /ro && echo out
        ln /ro/file /tmp/link && echo out
        touch /ro/new && echo out
        chmod 777 /ro/file && echo out
        echo x > /proc/self/root/ro/file && echo out
        (cd /ro && echo x > ../ro/./file) && echo out
        exit 0
    """
    await steps.run(script, bind("/ro", 1, readonly=True), trees=[tree])
    assert lines(steps) == []
    assert (tree.path / "file").read_text() == "content"
    assert sorted(p.name for p in tree.path.rglob("*")) == ["deep", "file", "sub"]


async def test_links_of_an_image_lead_nowhere(steps: Any, outside: Path) -> None:
    """Mount points, working directory and passwd are looked up in the image, not on the machine."""
    up = "../" * 20
    for name, target in {"abs": str(outside), "rel": f"{up}{outside}", "up": up}.items():
        (steps.base.path / name).symlink_to(target)
    tree = steps.refs.tree()
    (tree.path / "inner").write_text("inner")
    (tree.path / "leads").symlink_to(f"{up}{outside}/file")
    mounts = [bind(f"/{name}/made", 1) for name in ("abs", "rel")]
    mounts.append(bind(f"/up{outside}/third", 1, selector="inner"))
    script = f"""
        cat /abs/made/inner /rel/made/inner {outside}/third
        pwd
    """
    await steps.run(script, *mounts, trees=[tree], meta={"cwd": "/abs/cwd"})
    assert lines(steps)[0] == "inner" * 3 + f"{outside}/cwd" or "inner" in lines(steps)[0]
    with pytest.raises(Exception, match=r"no such path in its source|not a directory"):
        await steps.run("cat /in", bind("/in", 1, selector="leads"), trees=[tree])


async def test_race_of_links_and_mounts(steps: Any, outside: Path) -> None:
    """A step flips a directory to a link while other steps mount below it, in a shared cache."""
    flip = f"""set +e; cd /cache
        while ! test -e stop; do
            mkdir dir; rm -rf dir; ln -s {outside} dir; rm -f dir
            mkdir dir; rm -rf dir; ln -s /proc/1/root{outside} dir; rm -f dir
        done 2>/dev/null
    """
    tree = steps.refs.tree()
    (tree.path / "evil").write_text("evil")
    shared = cache("/cache", "race")

    async def attack() -> None:
        try:
            for _ in range(8):
                try:
                    await steps.run("true", shared, bind("/cache/dir/x", 1), trees=[tree])
                except Exception:  # the runtime may notice and refuse; that is as good
                    continue
        finally:
            await steps.run("touch /cache/stop", shared)

    await asyncio.gather(steps.run(flip, shared), attack())
    assert sorted(os.listdir(outside)) == ["file"]


@pytest.mark.usefixtures("limits")
async def test_fork_bomb(steps: Any) -> None:
    steps.services = replace(steps.services, limits=StepLimits(pids=30))
    with pytest.raises(ExecError):
        # Not endless, in case that nothing stops it.
        await steps.run("n=0; while test $n -lt 500; do sleep 4711 & n=$((n + 1)); done")
    assert "can't fork" in steps.log.text(2)
    await steps.run("echo well")
    assert steps.log.text(1) == "well\n"


@pytest.mark.usefixtures("limits")
async def test_all_the_memory(steps: Any) -> None:
    steps.services = replace(steps.services, limits=StepLimits(memory_bytes=30 << 20))
    with pytest.raises(ExecError, match="exit code: 137: cannot allocate memory"):
        # A step may ask for less, not for more.
        await steps.run(
            "dd if=/dev/zero of=/dev/null bs=200M count=1",
            resources=LinuxResources(memory=1 << 40),
        )


async def test_secrets_of_another_step(steps: Any) -> None:
    """While one step has a secret as file and variable, another one looks for it everywhere."""

    class Provider:
        async def get(self, id: str) -> bytes:
            return PLANTED.encode()

    steps.services = replace(steps.services, secrets=Provider())
    started = asyncio.Event()
    steps.log.on_data = started.set
    secret = Mount(
        input=-1,
        output=-1,
        dest="/run/s",
        mount_type=MountType.SECRET,
        secret_opt=SecretOpt(id="s", mode=0o444),
    )
    barrier = cache("/sync", "sync")
    holder = asyncio.create_task(
        steps.run(
            "echo up; while ! test -e /sync/done; do sleep 0.05; done; rm /sync/done",
            secret,
            barrier,
            secret_env=(SecretEnv("s", "S", False),),
        )
    )
    await started.wait()
    script = f"""set +e; exec 2>/dev/null
        grep -rl {PLANTED[:8]}{PLANTED[8:]} /run /tmp /dev/shm /etc /sync && echo out
        cat /proc/*/environ /proc/*/cmdline | grep -c {PLANTED}
        ls /run/s && echo out
        exit 0
    """
    own = type(steps.log)()
    await steps.run(script.replace(PLANTED, "planted-8a1f[5]5c0"), barrier, log=own)
    await steps.run("touch /sync/done", barrier)
    await holder
    assert own.text().split() == ["0"]
    # Nor do our own helpers show it to the machine.
    for place in steps.refs.root.rglob("*"):
        if place.is_file() and not place.is_symlink() and place.name != "busybox":
            assert PLANTED.encode() not in place.read_bytes(), place


async def test_private_caches_of_others(steps: Any) -> None:
    private = cache("/c", "p", CacheSharing.PRIVATE)
    started = asyncio.Event()
    steps.log.on_data = started.set
    barrier = cache("/sync", "sync")
    script = "echo mine > /c/mine; echo up; while ! test -e /sync/done; do sleep 0.05; done"
    holder = asyncio.create_task(steps.run(script, private, barrier))
    await started.wait()
    own = type(steps.log)()
    await steps.run("ls -A /c; ls -A /c/.. | grep -c mine || true", private, log=own)
    await steps.run("touch /sync/done", barrier)
    await holder
    assert own.text().split() == ["0"]


async def test_no_descriptor_of_ours_is_open(steps: Any) -> None:
    """Neither files of the machine nor sockets: only the standard ones and what `ls` opens."""
    await steps.run("ls /proc/self/fd; for f in 0 1 2; do readlink /proc/self/fd/$f; done")
    seen = lines(steps)
    assert set(seen[:4]) == {"0", "1", "2", "3"}
    assert seen[4] == "/dev/null" or seen[4].startswith("pipe:")  # runc copies an empty one
    assert all(name.startswith("pipe:") for name in seen[5:7])


async def test_environment_of_the_engine_is_not_seen(
    steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by the step nor in the environment of any helper process."""
    planted = token_hex(8)  # of this test alone: others run at the same time
    monkeypatch.setenv("TORANA_TEST_SECRET", planted)
    found: list[str] = []

    def look() -> None:
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    if planted.encode() in Path("/proc", name, "environ").read_bytes():
                        found.append(Path("/proc", name, "cmdline").read_text())
                except OSError:
                    continue

    steps.log.on_data = look
    await steps.run("env; echo up; sleep 0.2; echo down")
    assert planted not in steps.log.text()
    assert found == []


FILL = """
mount -t tmpfs -o size=24m tmpfs "$1" || exit 9
export TORANA_ROOT="$1/store" TORANA_NO_MEMO=1
cd "$2" || exit 9
"$3" -m torana build -q -f Fill . 2>"$2/fill.log"; echo "fill $?"
"$3" -m torana build -q -f Small . 2>"$2/small.log"; echo "small $?"
used=$(df -k "$1" | awk 'END { print $3 }')
test "$used" -lt 12000 && echo "space is back"
find "$1/store" -name junk | grep . || true
"""


@pytest.mark.needs("unshare")
def test_filling_the_disk(tmp_path: Path) -> None:
    """A step fills the disk of the store: it fails, its files go, and the next build works."""
    context, disk = tmp_path / "context", tmp_path / "disk"
    context.mkdir()
    disk.mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, context / "busybox")
    base = "FROM scratch\nCOPY busybox /bin/busybox\n"
    fill = 'RUN ["/bin/busybox", "dd", "if=/dev/zero", "of=/junk", "bs=64k"]\n'
    (context / "Fill").write_text(base + fill)
    (context / "Small").write_text(base + 'RUN ["/bin/busybox", "true"]\n')
    # In a mount namespace of its own, with which the small disk goes.
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", FILL, "sh", disk, context, sys.executable],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    logs = "".join((context / name).read_text() for name in ("fill.log", "small.log"))
    assert done.stdout.splitlines() == ["fill 1", "small 0", "space is back"], logs + done.stderr
    assert "no space left on device" in logs.lower()
