"""`RuntimeSuite`: what every container runtime must do.

Subclass it with the fixtures `runtime` and `rootfs`: a tree with a static busybox and its applets
in /bin, writable and owned by root. Steps run as root, or as root of a user namespace.

A runtime that cannot do something says so: override the test and mark it as an expected failure.
The suite needs pytest, which is no dependency of the package: import it from tests only. It is one
class, and so one module, since whoever subclasses it has to pass all of it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from torana.core.errors import ConflictError
from torana.core.llb.ops import Ulimit
from torana.core.ops.runtime import (
    ContainerMount,
    ContainerNetwork,
    ContainerSpec,
    ProcessSpec,
    RunningContainer,
    Runtime,
    RuntimeFailedError,
    Streams,
    User,
)
from torana.core.testing.abilities import other_users

_LIMIT_S = 60  # for what hangs; nothing here takes that long


class Containers:
    """Runs scripts in containers of one runtime."""

    def __init__(self, runtime: Runtime, rootfs: Path, folder: Path) -> None:
        self.runtime = runtime
        self._rootfs = rootfs
        self._folder = folder
        self._numbers = itertools.count()

    def spec(self, script: str, **members: object) -> ContainerSpec:
        number = next(self._numbers)
        directory = self._folder / f"container-{number}"
        directory.mkdir()
        made = ContainerSpec(
            id=f"suite-{secrets.token_hex(6)}",
            directory=directory,
            rootfs=self._rootfs,
            args=("sh", "-c", script),
            env=("PATH=/bin",),
        )
        return replace(made, **members)  # type: ignore[arg-type]  # by name

    async def run(self, script: str, **members: object) -> tuple[int, str]:
        """Give code and output, standard error after standard output."""
        chunks: dict[int, list[bytes]] = {1: [], 2: []}
        async with asyncio.timeout(_LIMIT_S):
            status = await self.runtime.run(
                self.spec(script, **members), lambda stream, data: chunks[stream].append(data)
            )
        return status.code, b"".join(chunks[1] + chunks[2]).decode()

    async def say(self, script: str, **members: object) -> str:
        """Give the output of a script that must succeed."""
        code, text = await self.run(script, **members)
        assert code == 0, text
        return text


@pytest.fixture
def containers(runtime: Runtime, rootfs: Path, tmp_path: Path) -> Iterator[Containers]:
    """Containers of the runtime, each with a directory of its own."""
    folder = tmp_path / "containers"
    folder.mkdir()
    yield Containers(runtime, rootfs, folder)
    shutil.rmtree(folder)


class RuntimeSuite:
    """Containers that run to their end, and containers that others talk to."""

    # The start test

    async def test_probe_passes_and_leaves_nothing(self, runtime: Runtime, tmp_path: Path) -> None:
        before = os.listdir(tmp_path)
        assert await runtime.probe(tmp_path) is None
        assert os.listdir(tmp_path) == before

    # Output and end

    async def test_output(self, containers: Containers) -> None:
        assert await containers.say("echo out; echo err >&2") == "out\nerr\n"
        assert len(await containers.say("dd if=/dev/zero bs=1000 count=999 2>&-")) == 999_000

    @pytest.mark.parametrize("code", [0, 1, 77, 255])
    async def test_codes(self, containers: Containers, code: int) -> None:
        assert await containers.run(f"exit {code}") == (code, "")

    async def test_killed_by_a_signal(self, containers: Containers) -> None:
        assert (await containers.run("sh -c 'kill -9 $$'; exit $?"))[0] == 137

    async def test_input_is_empty(self, containers: Containers) -> None:
        assert await containers.say("wc -c") == "0\n"

    async def test_missing_program(self, containers: Containers) -> None:
        for name in ("/bin/absent", "absent"):
            with pytest.raises(RuntimeFailedError, match=f'exec: "{name}": '):
                await containers.run("", args=(name,))

    @other_users
    async def test_missing_program_of_a_user(self, containers: Containers) -> None:
        with pytest.raises(RuntimeFailedError, match="absent"):
            await containers.run("", args=("absent",), user=User(7, 8))

    @pytest.mark.parametrize(
        "content",
        [b"", b"echo run by a shell\n", b"\x7fELF\2\1\1".ljust(18, b"\0") + b"\xfe\xca" * 23],
        ids=["empty", "text", "other-machine"],
    )
    async def test_wrong_format(self, containers: Containers, rootfs: Path, content: bytes) -> None:
        _program(rootfs / "bin/wrong", content)
        for name in ("/bin/wrong", "wrong"):
            code, text = await containers.run("", args=(name,))
            assert code == 1
            assert re.fullmatch(r"exec .*\bwrong\b.*: exec format error\n", text.lower())

    async def test_missing_interpreter(self, containers: Containers, rootfs: Path) -> None:
        _program(rootfs / "bin/orphan", b"#!/bin/absent\n")
        code, text = await containers.run("", args=("/bin/orphan",))
        assert code == 1
        assert re.fullmatch(r".*exec.* .*/bin/orphan.*: no such file or directory\n", text.lower())

    async def test_a_program_that_may_not_be_executed(
        self, containers: Containers, rootfs: Path
    ) -> None:
        _program(rootfs / "bin/closed", b"#!/bin/sh\n", mode=0o644)
        with pytest.raises(RuntimeFailedError) as caught:
            await containers.run("", args=("/bin/closed",))
        assert 'exec: "/bin/closed": permission denied' in caught.value.message.lower()

    async def test_what_stays_behind_ends(self, containers: Containers) -> None:
        mark = secrets.token_hex(8)
        await containers.say(f"sh -c 'sleep 1000; : {mark}' & true")
        assert _running(mark) == []

    async def test_cancelling_kills_everything(self, containers: Containers) -> None:
        mark = secrets.token_hex(8)
        began = asyncio.Event()
        script = f"trap '' TERM; sh -c 'sleep 1000; : {mark}' & echo began; wait; : {mark}"
        spec = containers.spec(script)
        task = asyncio.ensure_future(containers.runtime.run(spec, lambda *_: began.set()))
        async with asyncio.timeout(_LIMIT_S):
            await began.wait()
            assert _running(mark)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert _running(mark) == []

    # What a process gets

    async def test_arguments_are_kept_as_they_are(self, containers: Containers) -> None:
        words = ("a b", "", "--", "$x", "*", "é\n", "'")
        script = 'for word; do echo "[$word]"; done'
        text = await containers.say("", args=("sh", "-c", script, "sh", *words))
        assert text == "".join(f"[{word}]\n" for word in words)

    async def test_environment(self, containers: Containers) -> None:
        env = ("PATH=/bin", "A=b=c", "EMPTY=", "HOME=/h", "SPACE=a b")
        lines = (await containers.say("env", env=env)).splitlines()
        assert set(env) <= set(lines)
        assert {line.partition("=")[0] for line in lines} <= {
            *("PATH", "A", "EMPTY", "HOME", "SPACE", "PWD", "SHLVL", "OLDPWD", "_")
        }

    async def test_nothing_of_ours_is_seen(
        self, containers: Containers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PRIVATE", "secret-value")
        text = await containers.say("env; cat /proc/*/environ /proc/*/cmdline 2>&- | tr '\\0' ' '")
        assert "secret-value" not in text

    async def test_working_directory(self, containers: Containers, rootfs: Path) -> None:
        (rootfs / "w" / "d").mkdir(parents=True)
        assert await containers.say("pwd", cwd="/w/d") == "/w/d\n"

    async def test_hostname(self, containers: Containers) -> None:
        assert await containers.say("hostname", hostname="boxed") == "boxed\n"

    async def test_root_by_default(self, containers: Containers) -> None:
        assert await containers.say("id -u; id -g; id -G") == "0\n0\n0\n"

    @other_users
    async def test_user_and_groups(self, containers: Containers) -> None:
        text = await containers.say("id -u; id -g; id -G", user=User(7, 8, (9, 10)))
        assert text.split()[:2] == ["7", "8"]
        assert set(text.split()[2:]) == {"8", "9", "10"}

    @other_users
    async def test_a_user_has_no_rights(self, containers: Containers) -> None:
        script = "grep -E 'Cap(Eff|Prm|Amb)' /proc/self/status; ! touch /no 2>&-"
        text = await containers.say(script, user=User(7, 8))
        assert set(text.split()[1::2]) == {"0" * 16}

    async def test_limits(self, containers: Containers) -> None:
        limits = (Ulimit("nofile", 123, 456), Ulimit("core", 0, 0))
        text = await containers.say("ulimit -n; ulimit -Hn; ulimit -c", ulimits=limits)
        assert text == "123\n456\n0\n"

    # Files

    async def test_root_is_writable_or_not(self, containers: Containers, rootfs: Path) -> None:
        await containers.say("echo x > /made")
        assert (rootfs / "made").read_text() == "x\n"
        code, text = await containers.run("touch /no && exit 3; exit 4", readonly_rootfs=True)
        assert (code, "Read-only file system" in text) == (4, True)

    async def test_binds(self, containers: Containers, rootfs: Path, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        (source / "file").write_text("text")
        (rootfs / "one").touch()
        for name in ("all", "given"):
            (rootfs / name).mkdir()
        mounts = (
            ContainerMount(destination="/all", source=str(source)),
            ContainerMount(destination="/given", source=str(source), options=("ro",)),
            ContainerMount(destination="/one", source=str(source / "file"), options=("ro",)),
        )
        script = "cat /one; echo x > /all/new; cat /given/new; touch /given/no; echo x > /one"
        text = (await containers.run(script, mounts=mounts))[1]
        assert text.startswith("textx\n")
        assert text.count("Read-only file system") == 2
        assert os.listdir(rootfs / "all") == []

    async def test_mounts_in_mounts(
        self, containers: Containers, rootfs: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "outer" / "inner").mkdir(parents=True)
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "file").touch()
        (rootfs / "m").mkdir()
        mounts = (
            ContainerMount(destination="/m", source=str(tmp_path / "outer"), options=("ro",)),
            ContainerMount(destination="/m/inner", source=str(tmp_path / "deep")),
        )
        assert await containers.say("ls /m/inner; touch /m/inner/x", mounts=mounts) == "file\n"

    async def test_tmpfs(self, containers: Containers, rootfs: Path) -> None:
        (rootfs / "t").mkdir()
        mount = ContainerMount(destination="/t", kind="tmpfs", options=("size=1048576",))
        script = "touch /t/x; dd if=/dev/zero of=/t/big bs=1M count=3 2>&-; stat -c %s /t/big"
        assert await containers.say(script, mounts=(mount,)) == "1048576\n"
        assert os.listdir(rootfs / "t") == []

    async def test_devices(self, containers: Containers) -> None:
        script = (
            "for n in null zero full random urandom tty; do test -c /dev/$n || exit 3; done; "
            "head -c 9 /dev/zero | wc -c; echo x > /dev/null; test -w /dev/shm -a -d /dev/pts; "
            "echo out > /dev/stdout; readlink /dev/fd"
        )
        assert await containers.say(script) == "9\nout\n/proc/self/fd\n"

    async def test_no_disk_can_be_opened(self, containers: Containers) -> None:
        text = await containers.say("mknod /disk b 7 0 && head -c 1 /disk && exit 3; true")
        assert "ermi" in text, text  # not permitted, or permission denied

    # Walls

    async def test_processes_of_the_host_are_not_seen(self, containers: Containers) -> None:
        assert int(await containers.say("ls /proc | grep -c '^[0-9]'")) < 8

    async def test_what_is_refused(self, containers: Containers) -> None:
        script = (
            "mount -t tmpfs x /tmp; mount -o remount,rw /sys; unshare -m true; unshare -U true; "
            "echo 1 > /proc/sys/kernel/panic; hostname other; ip link set lo down; "
            "chroot / reboot -f; nsenter -t 1 -m true && exit 3"
        )
        code, text = await containers.run(f"mkdir -p /tmp; for i in 1; do {script}; done; exit 0")
        assert code == 0, text
        assert len(text.splitlines()) >= 8, text

    async def test_bounding_set_and_filter(self, containers: Containers) -> None:
        text = await containers.say("grep -E '^(CapBnd|Seccomp):' /proc/self/status")
        bounding, filtered = text.split()[1::2]
        assert int(bounding, 16) & ~0xA80425FB == 0
        assert filtered == "2"

    async def test_set_user_id_programs_work(self, containers: Containers) -> None:
        assert await containers.say("grep NoNewPrivs /proc/self/status") == "NoNewPrivs:\t0\n"

    async def test_insecure(self, containers: Containers) -> None:
        script = "mkdir -p /m; mount -t tmpfs x /m && unshare -m grep Seccomp: /proc/self/status"
        assert (await containers.say(script, insecure=True)).split() == ["Seccomp:", "0"]

    async def test_no_network(self, containers: Containers) -> None:
        script = "ls /sys/class/net; ifconfig lo | grep -c 127.0.0.1"
        assert await containers.say(script, network=ContainerNetwork.NONE) == "lo\n1\n"

    # Containers that run

    async def test_talking(self, containers: Containers) -> None:
        async with _started(containers, "echo ready; cat; exit 5") as (container, pipes):
            await pipes.read_until(b"ready\n")
            pipes.write(b"said")
            await pipes.read_until(b"said")
            pipes.close_input()
            assert (await container.wait()).code == 5

    @other_users
    async def test_processes_beside_the_first(self, containers: Containers) -> None:
        script = "echo ready; cat"
        async with _started(containers, script, user=User(7, 8)) as (container, pipes):
            await pipes.read_until(b"ready\n")
            process = ProcessSpec(
                args=("sh", "-c", "id -u; pwd; echo $X; cat /proc/1/comm; exit 6"),
                env=("PATH=/bin", "X=y"),
                cwd="/bin",
                user=User(9, 9),
            )
            with _Pipes() as own:
                other = await container.exec(process, own.streams)
                own.close_ours()
                assert (await other.wait()).code == 6
                assert (await own.rest()).split() == [b"9", b"/bin", b"y", b"cat"]
            pipes.close_input()
            assert (await container.wait()).code == 0
            with pytest.raises(ConflictError):
                await container.exec(process, Streams())

    async def test_walls_of_further_processes(self, containers: Containers) -> None:
        async with _started(containers, "echo ready; cat") as (container, pipes):
            await pipes.read_until(b"ready\n")
            facts = "grep -E '^(CapBnd|CapEff|Seccomp):' /proc/self/status"
            script = f"{facts}; ls /proc/self/fd | wc -l"
            process = ProcessSpec(args=("sh", "-c", script), env=("PATH=/bin",))
            with _Pipes() as own:
                other = await container.exec(process, own.streams)
                own.close_ours()
                assert (await other.wait()).code == 0
                words = (await own.rest()).split()
            assert [int(word, 16) & ~0xA80425FB for word in (words[1], words[3])] == [0, 0]
            assert words[5] == b"2"
            assert int(words[6]) <= 4

    async def test_signals(self, containers: Containers) -> None:
        script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done"
        async with _started(containers, script) as (container, pipes):
            await pipes.read_until(b"ready\n")
            container.signal(signal.SIGTERM)
            assert (await container.wait()).code == 9

    async def test_kill(self, containers: Containers) -> None:
        mark = secrets.token_hex(8)
        async with _started(containers, f"echo ready; sleep 1000; : {mark}") as (container, pipes):
            await pipes.read_until(b"ready\n")
            await container.kill()
            assert _running(mark) == []


def _program(path: Path, content: bytes, *, mode: int = 0o755) -> None:
    path.write_bytes(content)
    path.chmod(mode)


class _Pipes:
    """Pipes to a process's standard streams."""

    def __init__(self) -> None:
        self._input_read, self._input = os.pipe2(os.O_CLOEXEC)
        self._output, self._output_write = os.pipe2(os.O_CLOEXEC)
        self.streams = Streams(self._input_read, self._output_write, self._output_write)
        self._open = {self._input_read, self._input, self._output, self._output_write}

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in tuple(self._open):
            self._close(descriptor)

    def _close(self, descriptor: int) -> None:
        if descriptor in self._open:
            self._open.remove(descriptor)
            os.close(descriptor)

    def close_ours(self) -> None:
        """Leave the process's ends to it."""
        self._close(self._input_read)
        self._close(self._output_write)

    def close_input(self) -> None:
        self._close(self._input)

    def write(self, data: bytes) -> None:
        os.write(self._input, data)

    async def read_until(self, wanted: bytes) -> bytes:
        data = b""
        while wanted not in data:
            async with asyncio.timeout(_LIMIT_S):
                more = await asyncio.to_thread(os.read, self._output, 65536)
            assert more, data
            data += more
        return data

    async def rest(self) -> bytes:
        data = b""
        while more := await asyncio.to_thread(os.read, self._output, 65536):
            data += more
        return data


@asynccontextmanager
async def _started(
    containers: Containers, script: str, **members: object
) -> AsyncIterator[tuple[RunningContainer, _Pipes]]:
    with _Pipes() as pipes:
        spec = containers.spec(script, **members)
        container = await containers.runtime.start(spec, pipes.streams)
        try:
            pipes.close_ours()
            yield container, pipes
        finally:
            pipes.close_input()
            await container.kill()


def _running(mark: str) -> list[int]:
    """Give the processes of the machine that have `mark` among their arguments."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if mark.encode() in Path("/proc", name, "cmdline").read_bytes():
                found.append(int(name))
    return found
