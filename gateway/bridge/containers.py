"""`InProcessContainer`: containers of frontends on the worker's runtime."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from torana.core.cache.ref import Tree
from torana.core.errors import UserError
from torana.core.llb import ops as o
from torana.core.ops.exec.container import ContainerProcess, OpenContainer
from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.ops.exec.services import StepServices
from torana.core.ops.runtime import ContainerMount as HostMount
from torana.core.ops.runtime import ExitStatus, RunningProcess, Streams
from torana.core.pool import run_blocking
from torana.gateway.bridge import files
from torana.gateway.client.client import Stat
from torana.gateway.client.containers import (
    STDERR,
    STDIN,
    STDOUT,
    ContainerSpec,
    Output,
    ProcessSpec,
)

_QUEUED: Final = 16  # pieces of output that wait to be read
_READ_BYTES: Final = 64 << 10
_MAX_SIZE: Final = 0xFFFF  # of a terminal, in lines or columns


class InProcessContainer:
    """A container of the in-process bridge."""

    def __init__(
        self, opened: OpenContainer, *, allows_insecure: bool, on_release: Callable[[], object]
    ) -> None:
        self._opened = opened
        self._allows_insecure = allows_insecure
        self._on_release = on_release

    @classmethod
    async def open(
        cls,
        spec: ContainerSpec,
        trees: Sequence[Tree | None],
        services: StepServices,
        *,
        allows_insecure: bool = False,
        on_release: Callable[[], object] = lambda: None,
    ) -> InProcessContainer:
        """Open the mounts of `spec`; `trees` has what each of them shows, and stays the caller's.

        Raises:
            InvalidExecOpError: the mounts make no sense.
        """
        mounts = tuple(
            o.Mount(
                input=o.EMPTY if tree is None else index,
                selector=mount.selector,
                dest=mount.dest,
                output=o.SKIP_OUTPUT,
                readonly=mount.readonly,
                mount_type=mount.mount_type,
                tmpfs_opt=mount.tmpfs_opt,
                cache_opt=mount.cache_opt,
                secret_opt=mount.secret_opt,
                ssh_opt=mount.ssh_opt,
            )
            for index, (mount, tree) in enumerate(zip(spec.mounts, trees, strict=True))
        )
        meta = o.Meta(hostname=spec.hostname, extra_hosts=tuple(spec.extra_hosts))
        op = o.ExecOp(meta=meta, mounts=mounts, network=spec.network)
        opened = await OpenContainer.open(op, trees, services)
        return cls(opened, allows_insecure=allows_insecure, on_release=on_release)

    async def start(
        self,
        process: ProcessSpec,
        *,
        streams: Streams | None = None,
        binds: Sequence[HostMount] = (),
    ) -> InProcessProcess:
        """Start a process; with `streams` it gets these descriptors instead of pipes.

        `binds` are mounts of this machine that only the first process can bring.
        """
        if process.security is o.SecurityMode.INSECURE and not self._allows_insecure:
            raise UserError(
                "security.insecure is not allowed", hint="grant it with `--allow security.insecure`"
            )
        wanted = ContainerProcess(
            meta=o.Meta(
                args=tuple(process.args),
                env=tuple(process.env),
                cwd=process.cwd,
                user=process.user,
                remove_mount_stubs_recursive=process.remove_mount_stubs_recursive,
            ),
            security=process.security,
            secret_env=tuple(process.secret_env),
            is_terminal=process.is_terminal,
            binds=tuple(binds),
        )
        if streams is not None:
            return InProcessProcess(await self._opened.start(wanted, streams), _Pipes())
        if unknown := process.descriptors - {STDIN, STDOUT, STDERR}:
            raise InvalidExecOpError(f"no such descriptor: `{min(unknown)}`")
        pipes = _Pipes()
        try:
            with pipes.open(process.descriptors, is_terminal=process.is_terminal) as ends:
                return InProcessProcess(await self._opened.start(wanted, ends), pipes)
        except BaseException:
            pipes.close()
            raise

    async def read_file(
        self, path: str, *, mount: int = 0, offset: int = 0, length: int | None = None
    ) -> bytes:
        root = await self._directory(path, mount)
        return await run_blocking(files.read, root, path, offset, length)

    async def read_dir(
        self, path: str, *, mount: int = 0, include: str | None = None
    ) -> Sequence[Stat]:
        root = await self._directory(path, mount)
        return await run_blocking(files.listing, root, path, include)

    async def stat(self, path: str, *, mount: int = 0) -> Stat:
        root = await self._directory(path, mount)
        return await run_blocking(files.status, root, path)

    async def _directory(self, path: str, mount: int) -> Path:
        if not path.startswith("/"):
            raise InvalidExecOpError(f"path is not absolute: `{path}`")
        return await self._opened.path(mount)

    async def release(self) -> None:
        self._on_release()
        await asyncio.shield(self._opened.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.release()


class InProcessProcess:
    """A process of an `InProcessContainer`."""

    def __init__(self, running: RunningProcess, pipes: _Pipes) -> None:
        self._running = running
        self._pipes = pipes
        self._ended = asyncio.get_running_loop().create_task(_end(running))
        self._ended.add_done_callback(_look_at_error)

    async def write(self, data: bytes) -> None:
        await self._pipes.write(data)

    async def close_stdin(self) -> None:
        self._pipes.close_stdin()

    async def read(self) -> Output | None:
        return await self._pipes.read()

    async def resize(self, rows: int, columns: int) -> None:
        await self._running.resize(min(rows, _MAX_SIZE), min(columns, _MAX_SIZE))

    async def signal(self, name: str) -> None:
        try:
            number = signal.Signals[f"SIG{name.removeprefix('SIG')}"]
        except KeyError:
            raise UserError(f"unknown signal: `{name}`") from None
        self._running.signal(number)

    async def wait(self) -> int:
        return (await asyncio.shield(self._ended)).code


async def _end(running: RunningProcess) -> ExitStatus:
    return await running.wait()


def _look_at_error(task: asyncio.Task[ExitStatus]) -> None:
    """Have an error seen, so that asyncio does not complain about one that nobody waits for."""
    if not task.cancelled():
        task.exception()


class _Pipes:
    """Our ends of a process's descriptors, or our side of its terminal."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stdin: int | None = None
        self._queue: asyncio.Queue[Output | int] = asyncio.Queue()
        self._readers: dict[int, int] = {}  # our end by descriptor of the process
        self._paused: set[int] = set()
        self._open = 0

    @contextlib.contextmanager
    def open(self, wanted: frozenset[int], *, is_terminal: bool) -> Iterator[Streams]:
        """Open what is wanted and give the other ends, which are closed when left."""
        theirs: list[int] = []
        try:
            if is_terminal:
                yield self._open_terminal(wanted, theirs)
            else:
                yield self._open_pipes(wanted, theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def _open_terminal(self, wanted: frozenset[int], theirs: list[int]) -> Streams:
        master, slave = os.openpty()
        theirs.append(slave)
        os.set_blocking(master, False)
        if STDIN in wanted:
            self._stdin = os.dup(master)
        # Without a reader the process would stop at a full buffer.
        self._start(STDOUT, master)
        return Streams(slave, slave, slave)

    def _open_pipes(self, wanted: frozenset[int], theirs: list[int]) -> Streams:
        ends: list[int | None] = [None, None, None]
        for number in sorted(wanted):
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            mine, other = (write_end, read_end) if number == STDIN else (read_end, write_end)
            theirs.append(other)
            ends[number] = other
            os.set_blocking(mine, False)
            if number == STDIN:
                self._stdin = mine
            else:
                self._start(number, mine)
        return Streams(*ends)

    def _start(self, number: int, mine: int) -> None:
        self._readers[number] = mine
        self._open += 1
        self._loop.add_reader(mine, self._receive, number)

    def _receive(self, number: int) -> None:
        try:
            data = os.read(self._readers[number], _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # EIO: the other side of a terminal is closed
            data = b""
        if not data:
            self._end(number)
            return
        self._queue.put_nowait(Output(number, data))
        if self._queue.qsize() >= _QUEUED:
            self._loop.remove_reader(self._readers[number])
            self._paused.add(number)

    def _end(self, number: int) -> None:
        mine = self._readers.pop(number)
        self._loop.remove_reader(mine)
        self._paused.discard(number)
        os.close(mine)
        self._queue.put_nowait(number)

    async def read(self) -> Output | None:
        while self._open:
            item = await self._queue.get()
            if self._queue.qsize() < _QUEUED:
                for number in self._paused:
                    self._loop.add_reader(self._readers[number], self._receive, number)
                self._paused.clear()
            if isinstance(item, Output):
                return item
            self._open -= 1
        return None

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._stdin is not None:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await self._writable(self._stdin)
            except OSError:  # EPIPE, EIO: nobody reads any more
                self.close_stdin()

    async def _writable(self, descriptor: int) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        self._loop.add_writer(descriptor, wake)
        try:
            await ready
        finally:
            if self._stdin == descriptor:
                self._loop.remove_writer(descriptor)

    def close_stdin(self) -> None:
        if self._stdin is not None:
            descriptor, self._stdin = self._stdin, None
            self._loop.remove_writer(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Close everything; what was not read is lost."""
        self.close_stdin()
        for number in list(self._readers):
            self._end(number)
