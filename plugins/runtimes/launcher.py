"""`run`, `Program`: run programs of which nothing outlives this process, or a cancellation.

Each run has a thread of its own that leaves this process's mount namespace and asks for a new pid
namespace; the program it spawns is that namespace's init. When an init dies the kernel kills all
that is left in its namespace, containers with their own pid namespaces included. So killing one
process id ends everything, and it is killed by us or, by its parent-death signal, with us. Two
small programs of util-linux stand before it: `setpriv` sets that signal, `unshare` mounts the
/proc of the new namespace, which cannot be done from outside.

What the thread may change for its run: the devices cgroup (cgroup v1 takes single threads) and
mounts. Its death would count as the parent's death, which is why it waits for the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from torana.core.errors import UnsupportedError
from torana.core.ops.runtime import Output, RuntimeFailedError, Streams
from torana.core.records import dataclass
from torana.core.snapshots import mounts
from torana.plugins.runtimes import cgroups, threadspaces
from torana.plugins.runtimes.cgroup2 import Entry

_READ_BYTES: Final = 64 << 10
_SETPRIV_WORDS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a program finds changed.

    Its cgroups of which `own_groups` are made for it alone and go with it, a cgroup2 at
    /sys/fs/cgroup, and the network that a file stands for, or a new one without anything but
    loopback, with its /sys.
    """

    device_cgroup: Path | None = None
    own_groups: tuple[Path, ...] = ()
    cgroup2: bool = False
    network: Path | None = None
    new_network: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """A program to be started.

    `files` stay open for it, under the same numbers; `Program` closes them. `has_started` says
    whether the process runs that the program stands for, given the ids of the program's children.
    """

    argv: tuple[str, ...]
    surroundings: Surroundings = Surroundings()
    files: tuple[int, ...] = ()
    forwards_signals: bool = True  # to the process that it stands for
    has_started: Callable[[Sequence[int]], bool] | None = None  # None: a pid file says so

    def close(self) -> None:
        for file in self.files:
            os.close(file)


async def run(launch: Launch, output: Output, *, owner: int = 0) -> int:
    """Run a program to its end, standard input empty, and give its code (128 + N for a signal N).

    The output pipes belong to `owner`, so that a process of that user may open /dev/stdout.
    Cancelling kills it with all its descendants, and waits until they are gone.

    Raises:
        RuntimeFailedError: it could not be started.
        UnsupportedError: `setpriv` or `unshare` is missing.
    """
    loop = asyncio.get_running_loop()
    pipes = [_Pipe(loop, stream, output, owner) for stream in (1, 2)]
    try:
        program = Program(launch, Streams(None, *(p.write_end for p in pipes)))
        for pipe in pipes:
            pipe.close_write_end()
        try:
            code = await program.wait()
        except asyncio.CancelledError:
            await program.kill()
            raise
        for pipe in pipes:
            await pipe.closed
        return code
    finally:
        for pipe in pipes:
            pipe.close()


class Program:
    """A program that runs. Whoever makes one waits for its end, or kills it.

    With `beside` it becomes a process of the namespaces of that other program, and dies with it.
    """

    def __init__(
        self,
        launch: Launch,
        streams: Streams,
        *,
        beside: Program | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        guards = _guards() if beside is None else _guards()[:_SETPRIV_WORDS]
        self._run = _Run(
            [*guards, *launch.argv], launch, streams, 0 if beside is None else beside.pid
        )

        def report(result: int | BaseException) -> None:
            if isinstance(result, int):
                self._ended.set_result(result)
            else:
                self._ended.set_exception(result)

        self._thread = threading.Thread(
            target=self._run.work,
            args=(lambda result: loop.call_soon_threadsafe(report, result),),
            name="torana-container",
        )
        self._thread.start()

    @property
    def pid(self) -> int:
        """Its process id here; 0 before it has one."""
        return self._run.pid

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    async def wait(self) -> int:
        """Give the code (128 + N for a signal N); being cancelled changes nothing of the program.

        Raises:
            RuntimeFailedError: it could not be started.
        """
        code = await asyncio.shield(self._ended)
        self._thread.join()
        return code

    async def kill(self) -> None:
        """Kill it with all that it started, and wait until they are gone."""
        self._run.signal(signal.SIGKILL)
        await _outlast(self._ended)
        self._thread.join()

    def signal(self, number: int) -> None:
        """Send a signal to the program itself; nothing happens after its end."""
        self._run.signal(number)

    def children(self) -> list[int]:
        """Give the process ids, as seen here, of what the program itself started."""
        return self._run.children()

    def signal_children(self, number: int) -> None:
        """Send a signal to what the program itself started."""
        for child in self._run.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


async def _outlast(ended: asyncio.Future[int]) -> None:
    """Wait for the end whatever happens: further cancellations change nothing, it is near."""
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            continue
    ended.exception()


class _Run:
    """The part that happens in the thread."""

    def __init__(self, argv: Sequence[str], launch: Launch, streams: Streams, beside: int) -> None:
        self._argv = argv
        self._launch = launch
        self._surroundings = launch.surroundings
        self._beside = beside
        self._streams = [
            subprocess.DEVNULL if stream is None else os.dup(stream)
            for stream in (streams.stdin, streams.stdout, streams.stderr)
        ]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_killed = False

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def work(self, report: Callable[[int | BaseException], object]) -> None:
        result: int | BaseException
        try:
            result = self._run()
        except (OSError, subprocess.SubprocessError) as err:
            result = RuntimeFailedError(f"cannot start `{self._argv[-1]}`: {err}")
            result.__cause__ = err
        except BaseException as err:  # the loop waits for an answer, whatever it is
            result = err
        finally:
            self._close_streams()
            self._launch.close()
        report(result)

    def _run(self) -> int:
        if self._surroundings.device_cgroup is not None:
            (self._surroundings.device_cgroup / "tasks").write_text("0")
        groups = self._surroundings.own_groups
        with cgroups.joined(groups, is_beside=bool(self._beside)) as entry:
            return self._run_inside(entry)

    def _run_inside(self, entry: Entry) -> int:
        if self._beside:
            threadspaces.join(self._beside)
        else:
            self._leave()
        with self._lock:
            if self._is_killed:
                return 128 + signal.SIGKILL
            self._process = subprocess.Popen(
                [*entry.words, *self._argv],
                stdin=self._streams[0],
                stdout=self._streams[1],
                stderr=self._streams[2],
                cwd="/",
                env=_environment(),
                pass_fds=(*self._launch.files, *entry.files),
                start_new_session=True,  # signals of the terminal are for us alone
            )
        self._close_streams()
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _leave(self) -> None:
        # A user namespace may mount a cgroup2 only with a cgroup namespace of its own.
        threadspaces.unshare(cgroup=self._surroundings.cgroup2)
        mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_SLAVE)
        flags = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
        if self._surroundings.new_network:
            threadspaces.unshare_network()
        elif self._surroundings.network is not None:
            threadspaces.join_network(self._surroundings.network)
        if self._surroundings.new_network or self._surroundings.network is not None:
            mounts.mount("sysfs", "/sys", "sysfs", flags)
        if self._surroundings.cgroup2:
            mounts.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags)

    def _close_streams(self) -> None:
        while self._streams:
            stream = self._streams.pop()
            if stream != subprocess.DEVNULL:
                os.close(stream)

    def signal(self, number: int) -> None:
        with self._lock:
            self._is_killed = self._is_killed or number == signal.SIGKILL
            if self._process is not None:
                self._process.send_signal(number)

    def children(self) -> list[int]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return []
            return _children(self._process.pid)


class _Pipe:
    """A pipe whose read end is drained on the event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, stream: int, output: Output, owner: int
    ) -> None:
        self._loop = loop
        self._stream = stream
        self._output = output
        self.closed: asyncio.Future[None] = loop.create_future()
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        if owner:
            os.fchown(self.write_end, owner, -1)
        loop.add_reader(self._read_end, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._read_end, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._output(self._stream, data)
        else:
            self.close()

    def close_write_end(self) -> None:
        """Leave the write end to the program alone."""
        if self.write_end != -1:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        self.close_write_end()
        if self.closed.done():
            return
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        self.closed.set_result(None)


def _environment() -> dict[str, str]:
    """Give what programs see of our environment, in which there may be secrets."""
    return {"PATH": os.environ.get("PATH", os.defpath)}


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


@cache
def _guards() -> tuple[str, ...]:
    import shutil

    setpriv, unshare = shutil.which("setpriv"), shutil.which("unshare")
    if setpriv is None or unshare is None:
        raise UnsupportedError(
            f"`{'setpriv' if setpriv is None else 'unshare'}` is not on PATH",
            hint="install util-linux",
        )
    return setpriv, "--pdeathsig", "KILL", "--", unshare, "--mount-proc", "--"
