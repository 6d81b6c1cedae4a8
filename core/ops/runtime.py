"""`Runtime`: what runs a container. Implementations are plugins; the core knows this protocol only.

`ContainerSpec` says what a step needs, in words that any runtime can translate. Paths of the host
are complete and free of symbolic links.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Protocol

from torana.core.errors import ToranaError
from torana.core.llb.ops import LinuxResources, Ulimit
from torana.core.records import dataclass

Output = Callable[[int, bytes], None]
"""Takes a chunk of stream 1 (stdout) or 2 (stderr), on the event loop; must not block."""


class RuntimeFailedError(ToranaError):
    """The container could not be started; the message is the runtime's."""

    code = "RUNTIME_FAILED"


class ContainerNetwork(Enum):
    """Network namespace of a container."""

    HOST = "host"
    NONE = "none"  # loopback only
    SANDBOX = "sandbox"  # that of `ContainerSpec.network_namespace`


@dataclass(frozen=True, slots=True)
class User:
    """Ids that a process runs with."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()  # supplementary


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerMount:
    """Something mounted in the container at `destination`, an absolute clean path.

    `kind` is `bind` (of the host's directory or file `source`) or `tmpfs`. `options` are those of
    mount(8); binds are recursive, and read-only where they say `ro`.
    """

    destination: str
    source: str = "tmpfs"
    kind: str = "bind"
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNode:
    """A device of this machine, at `path` in the container."""

    path: str
    host_path: str
    kind: str  # `c`, `b` or `p`
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A program of this machine that the runtime runs; `stage` is the name in the OCI's spec."""

    stage: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout_s: int = 0  # 0 is no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container and its first process.

    `directory` is empty and belongs to the runtime until the container has ended; the caller
    removes it. `mounts` come parents first and replace the runtime's own at the same destination.
    """

    id: str
    directory: Path
    rootfs: Path
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = User()
    hostname: str = ""
    readonly_rootfs: bool = False
    mounts: tuple[ContainerMount, ...] = ()
    network: ContainerNetwork = ContainerNetwork.HOST
    network_namespace: Path | None = None  # a file that stands for the namespace to be joined
    insecure: bool = False
    ulimits: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""
    resources: LinuxResources | None = None
    devices: tuple[DeviceNode, ...] = ()
    hooks: tuple[Hook, ...] = ()
    apparmor_profile: str = ""  # a loaded one that confines all but insecure processes; empty: none
    selinux_label: str = ""  # of its processes
    mount_label: str = ""  # of the file systems that are mounted for it alone
    pids_limit: int = 0  # processes and threads at once; 0 is any number
    is_terminal: bool = False  # the process gets a terminal of its own; only with `start`


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A further process of a running container."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = User()
    insecure: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    is_terminal: bool = False


@dataclass(frozen=True, slots=True)
class Streams:
    """Descriptors of this process that another one gets; they stay the caller's.

    None is /dev/null. With a terminal all three are the slave side of one that is the caller's;
    what the process sees is another terminal, joined to it.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended; killed by signal N is 128 + N."""

    code: int
    is_out_of_memory: bool = False


class RunningProcess(Protocol):
    """A process in a container."""

    async def wait(self) -> ExitStatus:
        """Wait for its end; being cancelled changes nothing of the process.

        Raises:
            RuntimeFailedError: it did not start after all.
        """
        ...

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens after its end."""
        ...

    async def resize(self, rows: int, columns: int) -> None:
        """Give the terminal that the process sees a size."""
        ...


class RunningContainer(RunningProcess, Protocol):
    """A container, seen as its first process, with whose end it ends."""

    async def exec(self, process: ProcessSpec, streams: Streams) -> RunningProcess:
        """Start another process beside the first.

        Raises:
            ConflictError: the first process has ended.
            RuntimeFailedError: it did not start.
        """
        ...

    async def kill(self) -> None:
        """Kill all processes and wait until they are gone; always to be called at the end."""
        ...


class Runtime(Protocol):
    """Runs containers. Conformance: `torana.core.testing.runtimes`."""

    @property
    def name(self) -> str: ...

    async def probe(self, directory: Path) -> str | None:
        """Start a container that does nothing and say why it failed, or None.

        `directory` is an existing one for the runtime's own files.
        """
        ...

    async def run(self, spec: ContainerSpec, output: Output) -> ExitStatus:
        """Run the process to its end, standard input empty.

        All output has been handed over when it returns. Cancelling kills every process of the
        container and returns when they are gone. So does the death of the calling process, by
        whatever signal.

        Raises:
            RuntimeFailedError: the container did not start.
        """
        ...

    async def start(self, spec: ContainerSpec, streams: Streams) -> RunningContainer:
        """Start a container and give it once its process runs.

        Its processes die with the calling process, by whatever signal.

        Raises:
            RuntimeFailedError: the container did not start.
        """
        ...
