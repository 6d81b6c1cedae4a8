"""`Container` and `Process`: what a frontend may run beside the build.

Nothing that happens in a container becomes part of a result; it is for looking and for debugging.

Spec: `NewContainer`, `ExecProcess` and `ReleaseContainer` of LLBBridge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from torana.core.errors import ToranaError
from torana.core.llb.ops import (
    CacheOpt,
    Constraints,
    HostIP,
    MountType,
    NetMode,
    SecretEnv,
    SecretOpt,
    SecurityMode,
    SSHOpt,
    TmpfsOpt,
)
from torana.core.oci.platform import Platform
from torana.core.records import dataclass

if TYPE_CHECKING:
    from torana.gateway.client.client import Reference, Stat

STDIN, STDOUT, STDERR = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerMount:
    """Something mounted at `dest`; one of a container's mounts is at `/`.

    A bind mount shows `reference`, or the result with the id `result_id` that a failed solve
    named; with neither it is an empty directory. Writes go to a layer that is thrown away.
    """

    dest: str
    reference: Reference | None = None
    result_id: str = ""
    selector: str = ""  # path in what is mounted
    readonly: bool = False
    mount_type: MountType = MountType.BIND
    tmpfs_opt: TmpfsOpt | None = None
    cache_opt: CacheOpt | None = None
    secret_opt: SecretOpt | None = None
    ssh_opt: SSHOpt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container: its mounts and its surroundings."""

    mounts: Sequence[ContainerMount]
    network: NetMode = NetMode.UNSET
    platform: Platform | None = None
    constraints: Constraints | None = None
    hostname: str = ""
    extra_hosts: Sequence[HostIP] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A process: `env` holds `KEY=value`, `descriptors` are those that the frontend wants to have.

    Of the three standard descriptors the ones not wanted are /dev/null. With a terminal all output
    comes on descriptor 1.
    """

    args: Sequence[str]
    env: Sequence[str] = ()
    cwd: str = ""
    user: str = ""
    is_terminal: bool = False
    security: SecurityMode = SecurityMode.SANDBOX
    secret_env: Sequence[SecretEnv] = ()
    remove_mount_stubs_recursive: bool = False
    descriptors: frozenset[int] = frozenset({STDOUT, STDERR})


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes that a process has written to a descriptor."""

    descriptor: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that has ended."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""


class Process(Protocol):
    """A process that runs, or has run."""

    async def write(self, data: bytes) -> None:
        """Write to its standard input; waits while the process does not read.

        What a process that has ended would have read is dropped.
        """
        ...

    async def close_stdin(self) -> None:
        """End its standard input. Doing it again does nothing."""
        ...

    async def read(self) -> Output | None:
        """Wait for output; None once all descriptors are at their end.

        A process whose output nobody reads will stop when the pipes are full.
        """
        ...

    async def resize(self, rows: int, columns: int) -> None:
        """Give its terminal a size."""
        ...

    async def signal(self, name: str) -> None:
        """Send a signal by its name without `SIG`: `TERM`, `KILL`, `INT`.

        Raises:
            UserError: no such signal.
        """
        ...

    async def wait(self) -> int:
        """Wait for its end and give its exit code; 128 + N for a signal N, 255 if unknown."""
        ...


class Container(Protocol):
    """A container. Its first process starts it and ends it; others run beside that one."""

    async def start(self, process: ProcessSpec) -> Process:
        """Start a process.

        Raises:
            ConflictError: the first process has ended.
        """
        ...

    async def read_file(
        self, path: str, *, mount: int = 0, offset: int = 0, length: int | None = None
    ) -> bytes:
        """Read a file of the mount with that index; the path is absolute in the mount."""
        ...

    async def read_dir(
        self, path: str, *, mount: int = 0, include: str | None = None
    ) -> Sequence[Stat]: ...

    async def stat(self, path: str, *, mount: int = 0) -> Stat: ...

    async def release(self) -> None:
        """Kill all processes and give the mounts back. Doing it again does nothing."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release it."""
        ...


async def run(container: Container, process: ProcessSpec, *, stdin: bytes = b"") -> Completed:
    """Run a process to its end with `stdin` as its input, and collect what it writes.

    Raises:
        ToranaError: it did not start.
    """
    if stdin:
        process = replace(process, descriptors=process.descriptors | {STDIN})
    started = await container.start(process)
    collected: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}

    async def feed() -> None:
        if stdin:
            await started.write(stdin)
        await started.close_stdin()

    async def collect() -> None:
        while (output := await started.read()) is not None:
            collected[output.descriptor].append(output.data)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            group.create_task(collect())
            code = group.create_task(started.wait())
    except* ToranaError as failed:
        # They have all the same reason.
        raise failed.exceptions[0] from None
    return Completed(code.result(), b"".join(collected[STDOUT]), b"".join(collected[STDERR]))
