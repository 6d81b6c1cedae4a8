"""Steps in real containers, by each runtime."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from glob import glob
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from tests.integration import who

from torana.core.errors import NotFoundError, UnsupportedError
from torana.core.llb.ops import (
    CacheOpt,
    CacheSharing,
    HostIP,
    LinuxResources,
    Mount,
    MountType,
    NetMode,
    ProxyEnv,
    SecretEnv,
    SecretOpt,
    SecurityMode,
    SSHOpt,
    TmpfsOpt,
    Ulimit,
)
from torana.core.oci.platform import Platform
from torana.core.ops.exec.errors import ExecError, InvalidExecOpError, SecretNotFoundError
from torana.core.ops.runtime import RuntimeFailedError

pytestmark = pytest.mark.needs("root", "runc", "crun", "busybox")


def bind(dest: str, input: int, **options: Any) -> Mount:
    return Mount(**{"input": input, "dest": dest, "output": -1, **options})


def cache(dest: str, id: str = "", sharing: CacheSharing = CacheSharing.SHARED) -> Mount:
    return Mount(
        input=-1,
        output=-1,
        dest=dest,
        mount_type=MountType.CACHE,
        cache_opt=CacheOpt(id=id, sharing=sharing),
    )


def secret(dest: str, **options: Any) -> Mount:
    return Mount(
        input=-1,
        output=-1,
        dest=dest,
        mount_type=MountType.SECRET,
        secret_opt=SecretOpt(**{"mode": 0o400, **options}),
    )


class Secrets:
    async def get(self, id: str) -> bytes | None:
        return {"s": b"hunter2"}.get(id)


def leftovers(folder: Any) -> list[str]:
    return os.listdir(folder._memory)


async def test_output_and_result(steps: Any) -> None:
    (out,) = await steps.run("echo out; echo err >&2; echo made > /made")
    assert steps.log.text(1) == "out\n"
    assert steps.log.text(2) == "err\n"
    assert (out.path / "made").read_text() == "made\n"
    assert not (steps.base.path / "made").exists()
    assert out.description == "mount / from exec sh -ec echo out; echo err >&2; echo made > /made"
    assert steps.refs.live == {steps.base, out}
    assert leftovers(steps.services.folder) == []


@pytest.mark.differs(bubblewrap="capabilities are inheritable and ambient, too; no new privileges")
async def test_the_container_is_as_measured(steps: Any) -> None:
    await steps.run(
        "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; hostname; id -u; id -g; pwd; "
        "umask; env; ls /dev; cat /etc/hosts; cat | wc -c"
    )
    text = steps.log.text(1)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert f"{name}:\t00000000a80425fb\n" in text
    for name in ("CapInh", "CapAmb"):
        assert f"{name}:\t0000000000000000\n" in text
    assert "NoNewPrivs:\t0\n" in text
    assert "Seccomp:\t2\n" in text
    assert "buildkitsandbox\n0\n0\n/\n0022\n" in text
    assert "HOME=/" in text
    assert "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost" in text
    assert text.endswith("loopback\n0\n")
    nodes = set(text.partition("PATH=")[2].split())
    assert nodes >= set("fd full mqueue null ptmx pts random shm stderr stdin stdout tty".split())


async def test_exit_code(steps: Any) -> None:
    with pytest.raises(ExecError) as caught:
        await steps.run('echo "last words"; exit 7')
    assert str(caught.value) == (
        'process "sh -ec echo \\"last words\\"; exit 7" did not complete successfully: exit code: 7'
    )
    assert caught.value.exit_code == 7
    assert caught.value.log == b"last words\n"
    assert steps.refs.live == {steps.base}


async def test_killed_by_signal(steps: Any) -> None:
    # Not by the first shell: it is init of its pid namespace, to which its signals do nothing.
    with pytest.raises(ExecError) as caught:
        await steps.run("sh -c 'kill -9 $$'; true")
    assert caught.value.exit_code == 137
    assert "cannot allocate memory" not in str(caught.value)


async def test_valid_exit_codes_replace_zero(steps: Any) -> None:
    await steps.run("exit 7", meta={"valid_exit_codes": (7, 9)})
    with pytest.raises(ExecError, match="exit code: 0"):
        await steps.run("true", meta={"valid_exit_codes": (7, 9)})


async def test_missing_program(steps: Any) -> None:
    with pytest.raises(RuntimeFailedError, match=r'process "nope x" did not .*nope.*not found'):
        await steps.run("", args=("nope", "x"))
    assert steps.refs.live == {steps.base}
    assert leftovers(steps.services.folder) == []


async def test_failed_outputs_are_handed_over(steps: Any) -> None:
    taken: list[Any] = []

    async def take(error: ExecError, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        assert list(inputs) == [steps.base]
        taken.append((error.exit_code, *outputs))

    with pytest.raises(ExecError):
        await steps.run("echo x > /left; exit 3", on_failure=take)
    ((code, out),) = taken
    assert code == 3
    assert (out.path / "left").read_text() == "x\n"


async def test_cancel_kills_everything(steps: Any) -> None:
    started = asyncio.Event()
    steps.log.on_data = started.set
    task = asyncio.create_task(
        steps.run(f"{nap(1)} & sh -c 'trap \"\" TERM INT; echo up; {nap(2)}' & wait")
    )
    await asyncio.wait_for(started.wait(), 10)
    begin = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin < 2
    assert processes(nap(1)) == processes(nap(2)) == []
    assert steps.refs.live == {steps.base}
    assert leftovers(steps.services.folder) == []
    assert groups() & steps.services.folder.ids == set()


async def test_cancel_at_any_time(steps: Any) -> None:
    for delay_ms in (0, 1, 2, 4, 7, 11, 16, 30):
        task = asyncio.create_task(steps.run(nap(3)))
        await asyncio.sleep(delay_ms / 1000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert processes(nap(3)) == []
        assert steps.refs.live == {steps.base}
        assert steps.refs.mounted == []
    assert groups() & steps.services.folder.ids == set()


async def test_background_processes_do_not_hold_a_step(steps: Any) -> None:
    await asyncio.wait_for(steps.run(f"{nap(4)} & echo done"), 10)
    assert steps.log.text() == "done\n"
    assert processes(nap(4)) == []


@who.other_users
@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root)"),
        ("ann", "uid=1001(ann) gid=1002(annies) groups=1002(annies),1003(extra)"),
        ("1001", "uid=1001(ann) gid=1002(annies) groups=1002(annies),1003(extra)"),
        ("ann:extra", "uid=1001(ann) gid=1003(extra) groups=1003(extra)"),
        ("4444", "uid=4444 gid=0(root) groups=0(root)"),
        ("4444:5555", "uid=4444 gid=5555 groups=5555"),
        (":annies", "uid=0(root) gid=1002(annies) groups=1002(annies)"),
    ],
)
async def test_users(steps: Any, user: str, expected: str) -> None:
    await steps.run("id; echo x > /dev/stdout", meta={"user": user})
    assert steps.log.text() == f"{expected}\nx\n"


async def test_unknown_user(steps: Any) -> None:
    with pytest.raises(InvalidExecOpError, match="unable to find user zoe: no matching entries"):
        await steps.run("id", meta={"user": "zoe"})


@who.other_users
async def test_working_directory_is_made_for_the_user(steps: Any) -> None:
    (out,) = await steps.run("pwd; touch x", meta={"cwd": "/a/b", "user": "1001:1002"})
    assert steps.log.text() == "/a/b\n"
    for name in ("a", "a/b", "a/b/x"):
        found = (out.path / name).stat()
        assert (found.st_uid, found.st_gid) == (1001, 1002)
    assert stat.S_IMODE((out.path / "a").stat().st_mode) == 0o755


async def test_network_none(steps: Any) -> None:
    await steps.run("ip link | grep -c '^[0-9]'; ip link", network=NetMode.NONE)
    assert steps.log.text().startswith("1\n")
    assert "lo: <LOOPBACK,UP" in steps.log.text()


@pytest.mark.parametrize("network", [NetMode.HOST, NetMode.UNSET])
async def test_network_of_the_host(steps: Any, network: NetMode) -> None:
    await steps.run("readlink /proc/self/ns/net", network=network)
    assert steps.log.text().strip() == os.readlink("/proc/self/ns/net")


async def test_hosts_and_hostname(steps: Any) -> None:
    meta = {"hostname": "h", "extra_hosts": (HostIP("a", "1.2.3.4"), HostIP("b", "::2"))}
    await steps.run("hostname; cat /etc/hosts; ! echo x > /etc/hosts", meta=meta)
    assert steps.log.text(1) == (
        "h\n127.0.0.1\tlocalhost h\n::1\tlocalhost ip6-localhost ip6-loopback\n1.2.3.4\ta\n::2\tb\n"
    )
    assert "Read-only file system" in steps.log.text(2)


async def test_environment(steps: Any) -> None:
    meta = {"env": ("A=1", "A=2"), "proxy_env": ProxyEnv(http_proxy="p")}
    await steps.run("", args=("/bin/env",), meta=meta)
    lines = steps.log.text().splitlines()
    assert {"A=2", "HTTP_PROXY=p", "http_proxy=p"} <= set(lines)
    assert "A=1" not in lines
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in lines)


async def test_ulimits_only_if_given(steps: Any) -> None:
    import resource

    mine, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    await steps.run("ulimit -n")
    await steps.run("ulimit -n", meta={"ulimit": (Ulimit("nofile", 333, 444),)})
    first, second = steps.log.text().split()
    # runc raises its own soft limit, and hands it on.
    assert first == str(hard if steps.services.runtime.name == "runc" else mine)
    assert second == "333"


async def test_readonly_root(steps: Any) -> None:
    outputs = await steps.run(
        "! touch /x; touch /m/y",
        Mount(input=-1, output=-1, dest="/m", mount_type=MountType.TMPFS),
        root=Mount(input=0, dest="/", output=-1, readonly=True),
    )
    assert outputs == []
    assert "Read-only file system" in steps.log.text(2)
    assert not (steps.base.path / "m").exists()


async def test_binds(steps: Any) -> None:
    tree = steps.refs.tree()
    (tree.path / "sub").mkdir()
    (tree.path / "sub/file").write_text("content")
    outputs = await steps.run(
        "cat /ro/sub/file /file; ! touch /ro/x; ! echo x >> /file; "
        "touch /rw/thrown /out/kept /new/made; ls /rw/file",
        bind("/ro", 1, readonly=True),
        bind("/file", 1, readonly=True, selector="sub/file"),
        bind("/rw", 1, selector="/sub"),
        bind("/out", 1, output=1),
        bind("/new", -1, output=2),
        bind("/same", 1, output=3, readonly=True),
        trees=[tree],
    )
    root, out, new, same = outputs
    assert steps.log.text(1) == "contentcontent/rw/file\n"
    assert steps.log.text(2).count("Read-only file system") == 2
    assert not list(tree.path.rglob("thrown"))
    assert sorted(os.listdir(out.path)) == ["kept", "sub"]
    assert os.listdir(new.path) == ["made"]
    assert same.path == tree.path
    assert not {"ro", "rw", "file", "out", "new", "same"} & set(os.listdir(root.path))


async def test_selector_stays_inside_its_source(steps: Any) -> None:
    tree = steps.refs.tree()
    (tree.path / "link").symlink_to("/../../../../../../etc")
    (tree.path / "etc").mkdir()
    (tree.path / "etc/mine").write_text("mine")
    await steps.run("ls /m", bind("/m", 1, readonly=True, selector="link"), trees=[tree])
    assert steps.log.text() == "mine\n"
    with pytest.raises(NotFoundError, match="`nope/x`"):
        await steps.run("ls", bind("/m", 1, readonly=True, selector="nope/x"), trees=[tree])


async def test_relative_destination_and_last_duplicate(steps: Any) -> None:
    first, second = steps.refs.tree(), steps.refs.tree()
    (first.path / "one").touch()
    (second.path / "two").touch()
    await steps.run(
        "ls /w/m /etc/hosts",
        bind("m", 1, readonly=True),
        bind("/w/m", 2, readonly=True),
        bind("/etc/hosts", 2, readonly=True, selector="two"),
        trees=[first, second],
        meta={"cwd": "/w"},
    )
    assert steps.log.text() == "/etc/hosts\n\n/w/m:\ntwo\n"


async def test_stubs_vanish_and_times_return(steps: Any) -> None:
    before = snapshot_times(steps.base.path)
    (out,) = await steps.run(
        "true", cache("/c"), cache("/deep/er/c"), bind("/etc/f", 1, selector="f", readonly=True),
        trees=[file_tree(steps)],
    )  # fmt: skip
    after = snapshot_times(out.path)
    # Without the recursive option, parents that were made stay.
    assert {"deep", "deep/er"} <= after.keys()
    for name in ("deep", "deep/er", "dev", "proc", "sys", "."):
        after.pop(name, None)
        before.pop(name, None)
    assert after == before


async def test_stubs_vanish_with_parents(steps: Any) -> None:
    (out,) = await steps.run(
        "true", cache("/deep/er/c"), meta={"remove_mount_stubs_recursive": True}
    )
    assert not (out.path / "deep").exists()


async def test_stub_that_is_filled_stays(steps: Any) -> None:
    script = "touch /deep/er/file; echo new > /etc/new"
    (out,) = await steps.run(
        script, cache("/deep/er/c"), meta={"remove_mount_stubs_recursive": True}
    )
    assert os.listdir(out.path / "deep/er") == ["file"]
    # The step wrote to the directory, so its time is the step's.
    assert (out.path / "etc").stat().st_mtime > time.time() - 60


async def test_scratch_root_gets_no_etc(steps: Any) -> None:
    # Its program comes by a mount.
    (out,) = await steps.run(
        "",
        bind("/b", 0, selector="bin", readonly=True),
        root=Mount(input=-1, dest="/", output=0),
        args=("/b/true",),
    )
    assert set(os.listdir(out.path)) <= {"dev", "proc", "sys"}


async def test_tmpfs(steps: Any) -> None:
    mount = Mount(
        input=-1, output=-1, dest="/t", mount_type=MountType.TMPFS, tmpfs_opt=TmpfsOpt(1 << 20)
    )
    (out,) = await steps.run(
        "grep ' /t ' /proc/mounts; ! dd if=/dev/zero of=/t/x bs=1M count=2", mount
    )
    assert "tmpfs rw,nosuid" in steps.log.text(1)
    assert "size=1024k" in steps.log.text(1)
    assert "No space left" in steps.log.text(2)
    assert not (out.path / "t").exists()


async def test_shared_cache(steps: Any) -> None:
    await asyncio.gather(
        *(
            steps.run(f"echo {i} >> /c/f; while [ $(wc -l < /c/f) != 2 ]; do :; done", cache("/c"))
            for i in range(2)
        )
    )
    (out,) = await steps.run("cat /c/f", cache("/c"))
    assert sorted(steps.log.text().split()) == ["0", "1"]
    assert not (out.path / "c").exists()
    description = steps.refs.retained_keys["cache-dir:/c"]
    assert description.startswith("cached mount /c from exec sh -ec echo ")


async def test_locked_cache_waits(steps: Any) -> None:
    mount = cache("/c", "mine", CacheSharing.LOCKED)
    script = "test ! -e /c/busy; touch /c/busy; sleep 0.1; rm /c/busy"
    await asyncio.gather(steps.run(script, mount), steps.run(script, mount))
    assert steps.refs.retained_keys["cache-dir:mine"].endswith(' with id "mine"')


async def test_private_cache_is_another_one(steps: Any) -> None:
    mount = cache("/c", "p", CacheSharing.PRIVATE)
    script = "test ! -e /c/busy; touch /c/busy; sleep 0.2"
    await asyncio.gather(steps.run(script, mount), steps.run(script, mount))
    await steps.run("ls /c", mount)
    assert steps.log.text() == "busy\n"  # the first one is free again


async def test_two_mounts_of_one_cache(steps: Any) -> None:
    for sharing in CacheSharing:
        mounts = [cache("/c", f"x{sharing}", sharing), cache("/d", f"x{sharing}", sharing)]
        await steps.run("echo hi > /c/f; cat /d/f", *mounts)
    assert steps.log.text() == "hi\n" * 3


async def test_caches_in_another_order_are_not_waited_for_forever(steps: Any) -> None:
    one, two = (cache(f"/{id}", id, CacheSharing.LOCKED) for id in ("one", "two"))
    runs = [steps.run("sleep 0.05", *mounts) for mounts in ((one, two), (two, one)) * 3]
    async with asyncio.timeout(60):
        await asyncio.gather(*runs)


async def test_cache_with_base(steps: Any) -> None:
    mount = replace(cache("/c", "b"), input=1, selector="sub")
    for content in ("1", "2"):
        tree = steps.refs.tree()
        (tree.path / "sub").mkdir()
        (tree.path / "sub/f").write_text(content)
        await steps.run("cat /c/f; echo -n + >> /c/f", mount, trees=[tree])
        await steps.run("cat /c/f", mount, trees=[tree])
        assert (tree.path / "sub/f").read_text() == content
    assert steps.log.text() == "11+22+"


@who.other_users
async def test_secret_file(steps: Any) -> None:
    steps.services = replace(steps.services, secrets=Secrets())
    (out,) = await steps.run(
        "cat /run/secrets/s; ls -ln /run/secrets/s; grep /run/secrets/s /proc/mounts; "
        "! echo x > /run/secrets/s",
        secret("/run/secrets/s", id="s", uid=3, gid=4, mode=0o440),
        secret("/run/secrets/none", id="none", optional=True),
        meta={"remove_mount_stubs_recursive": True},
    )
    text = steps.log.text(1)
    assert text.startswith("hunter2-r--r-----    1 3        4 ")
    assert "tmpfs /run/secrets/s tmpfs ro,nosuid,nodev,noexec" in text
    assert not (out.path / "run").exists()


async def test_secret_environment(steps: Any) -> None:
    steps.services = replace(steps.services, secrets=Secrets())
    await steps.run(
        'echo "$S,$P,${O-unset}"',
        secret_env=(SecretEnv("s", "S"), SecretEnv("none", "O", True), SecretEnv("s", "P")),
        meta={"env": ("PATH=/bin", "P=mine")},
    )
    assert steps.log.text() == "hunter2,hunter2,\n"


async def test_secrets_do_not_leak(steps: Any, caplog: pytest.LogCaptureFixture) -> None:
    steps.services = replace(steps.services, secrets=Secrets())
    caplog.set_level(0)
    op = steps.op("exit 3", secret("/s", id="s"), secret_env=(SecretEnv("s", "S"),))
    key, _ = await op.cache_map(0)
    assert b"hunter2" not in repr(key).encode()
    with pytest.raises(ExecError) as caught:
        await op.exec([steps.base])
    with pytest.raises(RuntimeFailedError) as other:
        await steps.run("", args=("nope",), secret_env=(SecretEnv("s", "S"),))
    for text in (repr(caught.value), str(other.value), caplog.text, steps.log.text()):
        assert "hunter2" not in text
    found = [
        path
        for top in (steps.refs.root, steps.services.folder.base)
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink() and b"hunter2" in path.read_bytes()
    ]
    assert found == []


async def test_missing_secrets(steps: Any) -> None:
    with pytest.raises(SecretNotFoundError, match="secret none: not found"):
        await steps.run("true", secret("/s", id="none"))
    with pytest.raises(SecretNotFoundError, match="secret none: not found"):
        await steps.run("true", secret_env=(SecretEnv("none", "N"),))
    with pytest.raises(InvalidExecOpError, match="secret ID missing from mount options"):
        await steps.run("true", secret("/s", id=""))
    with pytest.raises(InvalidExecOpError, match='secret ID missing for "N" environment variable'):
        await steps.run("true", secret_env=(SecretEnv("", "N"),))


def ssh(**options: Any) -> Mount:
    return Mount(
        input=-1,
        output=-1,
        dest="/agent",
        mount_type=MountType.SSH,
        ssh_opt=SSHOpt(mode=0o600, **options),
    )


@who.other_users
async def test_ssh(steps: Any) -> None:
    class Agents:
        @asynccontextmanager
        async def forward(self, id: str, socket: Path) -> AsyncIterator[bool]:
            if id != "default":
                yield False
                return

            async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.close()

            server = await asyncio.start_unix_server(answer, socket)
            try:
                yield True
            finally:
                server.close()
                await server.wait_closed()

    steps.services = replace(steps.services, ssh=Agents())
    await steps.run("test -S /agent; ls -ln /agent", ssh(uid=5))
    assert "srw-------    1 5        0 " in steps.log.text()
    await steps.run("test ! -e /agent", ssh(id="other", optional=True))
    with pytest.raises(UnsupportedError, match='no SSH key "other" forwarded from the client'):
        await steps.run("true", ssh(id="other"))


async def test_ssh_without_provider(steps: Any) -> None:
    await steps.run("test ! -e /agent", ssh(optional=True))
    with pytest.raises(UnsupportedError, match="ssh mounts need"):
        await steps.run("true", ssh())


async def test_sandbox(steps: Any) -> None:
    await steps.run(
        "head -c 1 /proc/kcore | wc -c; ! echo 1 > /proc/sys/kernel/panic; ! unshare -m true; "
        "! touch /sys/fs/cgroup/x; ! mount -t tmpfs x /tmp"
    )
    assert steps.log.text(1).split() == ["0"]


@who.devices
@pytest.mark.differs(bubblewrap="no device works but those in /dev")
async def test_made_devices(steps: Any) -> None:
    await steps.run(
        "mknod /disk b 254 0; ! head -c 1 /disk; mknod /zero c 1 5; head -c 2 /zero | wc -c; "
        "mknod /dev/disk b 254 0; ! head -c 1 /dev/disk"
    )
    assert steps.log.text(1).split() == ["2"]
    assert "head: /disk: Operation not permitted" in steps.log.text(2)
    assert "head: /dev/disk: Operation not permitted" in steps.log.text(2)


@pytest.mark.differs(bubblewrap="no ambient capabilities")
async def test_insecure(steps: Any) -> None:
    await steps.run(
        "grep -E '^(CapEff|CapAmb|Seccomp:)' /proc/self/status; mount -t tmpfs x /tmp; "
        "unshare -m true",
        security=SecurityMode.INSECURE,
    )
    mine = Path("/proc/self/status").read_text().partition("CapBnd:\t")[2].split()[0]
    assert steps.log.text(1) == f"CapEff:\t{mine}\nCapAmb:\t{mine}\nSeccomp:\t0\n"


@who.settings
async def test_insecure_settings(steps: Any) -> None:
    script = "cat /proc/sys/kernel/panic > /proc/sys/kernel/panic"
    await steps.run(script, security=SecurityMode.INSECURE)


@who.devices
async def test_insecure_devices(steps: Any) -> None:
    script = "mknod /zero c 1 5; head -c 2 /zero | wc -c"
    await steps.run(script, security=SecurityMode.INSECURE)
    assert steps.log.text(1) == "2\n"


async def test_output_that_is_not_utf8(steps: Any) -> None:
    await steps.run(r"printf '\377\000\376'")
    assert steps.log.raw(1) == b"\xff\x00\xfe"


async def test_huge_output_is_clipped(steps: Any) -> None:
    with pytest.raises(ExecError) as caught:
        await steps.run("seq 1000000; echo the end; exit 1")
    out = steps.log.raw(1)
    assert len(out) < 3 << 20
    assert b"[output clipped, log limit 2" in out
    assert out.endswith(b"1000000\nthe end\n")
    assert caught.value.log.endswith(b"1000000\nthe end\n")


async def test_many_at_once(steps: Any) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*(steps.run(f"echo {i}; sleep 0.1") for i in range(20)))
    assert sorted(map(int, steps.log.text().split())) == list(range(20))


@pytest.mark.usefixtures("limits")
async def test_out_of_memory(steps: Any) -> None:
    limits = LinuxResources(memory=30 << 20, memory_swap=30 << 20)
    script = "dd if=/dev/zero of=/dev/null bs=200M count=1"
    with pytest.raises(ExecError, match="exit code: 137: cannot allocate memory"):
        await steps.run(script, resources=limits)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("asked_by", ["the step", "the worker"])
async def test_limits_lie_below_the_parent_that_was_asked_for(steps: Any, asked_by: str) -> None:
    """In groups of the container's own, which go with it; those of the machine tell."""
    parent = f"torana-test-{token_hex(4)}"
    seen: dict[str, str] = {}

    def look() -> None:
        for group in groups_below(parent):
            names = ("pids.max", "cpu.cfs_quota_us", "cpu.max", "memory.limit_in_bytes")
            for name in (*names, "memory.max"):
                with suppress(OSError):
                    seen[name] = (group / name).read_text().strip()

    steps.log.on_data = look
    limits = LinuxResources(memory=64 << 20, cpu_quota=50_000, cpu_period=100_000)
    if asked_by == "the worker":
        steps.services = replace(steps.services, cgroup_parent=parent)
    meta = {"cgroup_parent": parent} if asked_by == "the step" else {}
    try:
        await steps.run("echo up; sleep 0.1", resources=limits, meta=meta)
        assert groups_below(parent) == []
    finally:
        remove_groups(parent)
    assert seen.pop("pids.max") == "16384"
    assert sorted(seen.values()) in (["50000", "67108864"], ["50000 100000", "67108864"])


def remove_groups(name: str) -> None:
    """Remove empty groups; the kernel may need a moment after the last process has ended."""
    deadline = time.monotonic() + 60
    while left := sorted(cgroups(f"**/{name}/**/"), reverse=True):
        assert time.monotonic() < deadline, left
        for group in left:
            with suppress(OSError):
                group.rmdir()


def groups_below(parent: str) -> list[Path]:
    return [*cgroups(f"{parent}/buildkit/*/"), *cgroups(f"*/{parent}/buildkit/*/")]


def cgroups(pattern: str) -> list[Path]:
    """Give those that match; others go while one looks, which stops `Path.glob`."""
    return [Path(name) for name in glob(f"/sys/fs/cgroup/{pattern}", recursive=True)]


def file_tree(steps: Any) -> Any:
    tree = steps.refs.tree()
    (tree.path / "f").write_text("f")
    return tree


def snapshot_times(root: Path) -> dict[str, int]:
    return {str(p.relative_to(root)): p.lstat().st_mtime_ns for p in [root, *root.rglob("*")]}


def nap(number: int) -> str:
    """Give a command line that no other run of the tests has."""
    return f"sleep {os.getpid()}{number}"


def processes(line: str) -> list[int]:
    wanted = line.replace(" ", "\0").encode() + b"\0"
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found_line = Path("/proc", name, "cmdline").read_bytes()
            except OSError:
                continue
            if found_line == wanted:
                found.append(int(name))
    return found


def groups() -> set[str]:
    """Give the containers that have cgroups."""
    return {path.name for path in (*cgroups("buildkit/*"), *cgroups("*/buildkit/*"))}


@who.other_users
async def test_emulation(steps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands for an emulator runs the step; it is there for the run only."""
    program = tmp_path / "bin/buildkit-qemu-sparc"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$0" emulates "$1"; exec "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{program.parent}")
    platform = Platform(os="linux", architecture="sparc")
    meta = {"args": ("/bin/sh", "-c", "echo step"), "user": "1001"}
    (out,) = await steps.run("", platform=platform, meta=meta)
    shown = "/dev/.buildkit_qemu_emulator emulates /bin/sh\nstep\n"
    assert steps.log.text() == shown
    assert not (out.path / "dev/.buildkit_qemu_emulator").exists()
