"""`ContainerSuite`: what the containers of every `Client` must do, however far the engine is away.

Subclass it with the fixtures `client` and `busybox`: a reference to a tree with a static busybox
and its applets in /bin.

The suite needs pytest, which is no dependency of the package: import it from tests only.
"""

from __future__ import annotations

import asyncio

import pytest

from torana.core.errors import (
    ConflictError,
    NotFoundError,
    ToranaError,
    UserError,
)
from torana.gateway.client.client import Client, Reference
from torana.gateway.client.containers import (
    Container,
    ContainerMount,
    ContainerSpec,
    Process,
    ProcessSpec,
    run,
)
from torana.gateway.client.failures import failed_solve
from torana.gateway.testing.clients import solved, tree

ENV = ("PATH=/bin",)


def shell(script: str, **options: object) -> ProcessSpec:
    """Give a process that runs a script in the busybox tree."""
    return ProcessSpec(args=("sh", "-c", script), env=ENV, **options)  # type: ignore[arg-type]  # by name


def on(busybox: Reference, *more: ContainerMount, **options: object) -> ContainerSpec:
    """Give a container with the busybox tree at `/`."""
    root = ContainerMount(dest="/", reference=busybox)
    return ContainerSpec(mounts=(root, *more), **options)  # type: ignore[arg-type]  # by name


async def read_until(process: Process, wanted: bytes) -> bytes:
    """Read output until it has `wanted`."""
    data = b""
    while wanted not in data:
        output = await process.read()
        assert output is not None, data
        data += output.data
    return data


class ContainerSuite:
    """Containers. Stock BuildKit ends a container when any of its processes has failed."""

    survives_failures = True

    async def _alive(self, container: Container) -> Process:
        """Start a first process that stays until its input ends."""
        return await container.start(shell("cat", descriptors=frozenset({0, 1, 2})))

    async def test_output_and_code(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            done = await run(container, shell("echo out; echo err >&2; exit 3"))
        assert (done.exit_code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")

    async def test_input(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            data = b"x" * 300_000 + b"\n"
            done = await run(container, shell("wc -c; echo done"), stdin=data)
        assert done.stdout.split() == [b"300001", b"done"]
        assert done.exit_code == 0

    async def test_large_output(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            done = await run(container, shell("dd if=/dev/zero bs=65536 count=100 2>/dev/null"))
        assert len(done.stdout) == 6_553_600

    async def test_what_a_process_gets(self, client: Client, busybox: Reference) -> None:
        from torana.core.llb.ops import HostIP

        spec = on(busybox, hostname="box", extra_hosts=(HostIP("far", "10.1.2.3"),))
        async with await client.new_container(spec) as container:
            script = "id -u; id -g; pwd; hostname; echo $ONE; grep -c 10.1.2.3 /etc/hosts"
            done = await run(
                container,
                ProcessSpec(
                    args=("sh", "-c", script), env=(*ENV, "ONE=1"), cwd="/tmp/w", user="7:8"
                ),
            )
        assert done.stdout.split() == [b"7", b"8", b"/tmp/w", b"box", b"1", b"1"]

    async def test_mounts(self, client: Client, busybox: Reference) -> None:
        reference = await solved(client, tree())
        spec = on(
            busybox,
            ContainerMount(dest="/given", reference=reference, readonly=True),
            ContainerMount(dest="/part", reference=reference, selector="folder"),
            ContainerMount(dest="/empty"),
        )
        async with await client.new_container(spec) as container:
            script = "cat /given/text; ls /part; touch /given/no || touch /part/yes /empty/yes"
            done = await run(container, shell(script))
            assert done.stdout == b"0123456789a.txt\nb.txt\nc.md\n"
            assert b"Read-only file system" in done.stderr
            assert await container.read_file("/text", mount=1) == b"0123456789"
            names = [entry.path for entry in await container.read_dir("/", mount=3)]
            assert names == ["yes"]
            found = await container.read_dir("/", mount=0, include="b*")
            assert [entry.path for entry in found] == ["bin"]
        # Nothing of it is part of the result.
        assert [entry.path for entry in await reference.read_dir("/folder")] == [
            "a.txt",
            "b.txt",
            "c.md",
        ]

    async def test_files_of_a_container(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            assert (await container.stat("/bin/busybox")).mode & 0o111
            first = await self._alive(container)
            await run(container, shell("echo made > /made"))
            assert await container.read_file("/made") == b"made\n"
            assert await container.read_file("/made", offset=1, length=2) == b"ad"
            with pytest.raises(NotFoundError):
                await container.read_file("/absent")
            with pytest.raises(ToranaError):
                await container.read_file("/made", mount=9)
            await first.close_stdin()
            assert await first.wait() == 0

    async def test_processes_beside_the_first(self, client: Client, busybox: Reference) -> None:
        codes = (0, 1, 2) if self.survives_failures else (0, 0, 0)
        async with await client.new_container(on(busybox)) as container:
            first = await self._alive(container)
            done = await asyncio.gather(
                *(run(container, shell(f"cat; exit {n}"), stdin=b"%d" % n) for n in codes)
            )
            assert [(e.exit_code, e.stdout) for e in done] == [(n, b"%d" % n) for n in codes]
            await first.write(b"still here")
            assert await read_until(first, b"here") == b"still here"
            await first.close_stdin()
            assert await first.wait() == 0
            assert await first.read() is None
            with pytest.raises(ConflictError if self.survives_failures else ToranaError):
                await run(container, shell("true"))

    async def test_signals(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.02; done"
            first = await container.start(shell(script))
            await read_until(first, b"ready")
            other = await container.start(shell(script.replace("exit 5", "exit 0")))
            await read_until(other, b"ready")
            await other.signal("TERM")
            assert (await read_until(other, b"got"), await other.wait()) == (b"got\n", 0)
            await first.signal("TERM")
            assert (await read_until(first, b"got"), await first.wait()) == (b"got\n", 5)

    async def test_kill_beside_the_first(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            first = await self._alive(container)
            other = await container.start(shell("echo ready; sleep 100"))
            await read_until(other, b"ready")
            await other.signal("KILL")
            assert await other.wait() == 137
            if self.survives_failures:
                await first.close_stdin()
                assert await first.wait() == 0

    async def test_unknown_signal(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            process = await self._alive(container)
            with pytest.raises(UserError, match="signal"):
                await process.signal("NOSUCH")

    async def test_kill_the_first(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            process = await container.start(shell("echo ready; sleep 100"))
            await read_until(process, b"ready")
            await process.signal("KILL")
            assert await process.wait() == 137
            assert await process.read() is None

    async def test_terminal(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            process = await container.start(
                ProcessSpec(
                    args=("sh", "-i"), env=ENV, is_terminal=True, descriptors=frozenset({0, 1})
                )
            )
            await process.resize(31, 97)
            await process.write(b"echo $TERM-$((6*7))\n")
            await read_until(process, b"xterm-42")
            # The size arrives by a signal, some time.
            size = b""
            while b"31 97" not in size:
                await process.write(b"stty size; echo e''nd\n")
                size = await read_until(process, b"end")
            await process.write(b"exit 4\n")
            while await process.read() is not None:
                pass
            assert await process.wait() == 4

    async def test_terminal_beside_the_first(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            first = await self._alive(container)
            process = await container.start(
                shell(
                    "tty >&2; read line; echo got $line",
                    is_terminal=True,
                    descriptors=frozenset({0, 1}),
                )
            )
            await read_until(process, b"/dev/pts/")
            await process.write(b"this\n")
            await read_until(process, b"got this")
            assert await process.wait() == 0
            await first.close_stdin()

    async def test_missing_program(self, client: Client, busybox: Reference) -> None:
        async with await client.new_container(on(busybox)) as container:
            try:
                done = await run(container, ProcessSpec(args=("/bin/absent",), env=ENV))
            except ToranaError as err:
                assert "absent" in err.message  # one of two right answers
            else:
                assert done.exit_code != 0

    async def test_release_ends_all(self, client: Client, busybox: Reference) -> None:
        container = await client.new_container(on(busybox))
        first = await container.start(shell("echo ready; sleep 100"))
        await read_until(first, b"ready")
        other = await container.start(shell("sleep 100"))
        await container.release()
        assert await first.wait() in (137, 255)
        assert await other.wait() in (137, 255)
        await container.release()

    async def test_host_network_must_be_granted(self, client: Client, busybox: Reference) -> None:
        from torana.core.llb.ops import NetMode

        with pytest.raises(ToranaError, match=r"network\.host is not allowed"):
            async with await client.new_container(on(busybox, network=NetMode.HOST)) as container:
                await run(container, shell("true"))

    async def test_no_network(self, client: Client, busybox: Reference) -> None:
        from torana.core.llb.ops import NetMode

        async with await client.new_container(on(busybox, network=NetMode.NONE)) as container:
            done = await run(container, shell("ls /sys/class/net"))
        assert done.stdout == b"lo\n"

    async def test_what_a_failed_step_left(self, client: Client, busybox: Reference) -> None:
        from torana.core.llb import from_definition

        definition = await busybox.definition()
        assert definition is not None
        base = from_definition(definition).env("PATH", "/bin").dir("/")
        step = base.run(("sh", "-c", "echo partial > /left; exit 3")).root
        with pytest.raises(ToranaError) as caught:
            await solved(client, step.marshal(), evaluate=True)
        failed = failed_solve(caught.value)
        assert failed is not None
        assert len(failed.input_ids) == len(failed.mount_ids) == 1
        for id, found in ((failed.mount_ids[0], b"partial\n"), (failed.input_ids[0], b"")):
            spec = ContainerSpec(mounts=(ContainerMount(dest="/", result_id=id),))
            async with await client.new_container(spec) as container:
                done = await run(container, shell("cat /left || true"))
            assert done.stdout == found
        spec = ContainerSpec(mounts=(ContainerMount(dest="/", result_id="other"),))
        with pytest.raises(ToranaError):
            await client.new_container(spec)
