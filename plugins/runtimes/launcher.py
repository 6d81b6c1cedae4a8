"""`launch`: run a program so that nothing of it outlives this process or a cancellation.

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
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from torana.core.errors import UnsupportedError
from torana.core.ops.runtime import Output, RuntimeFailedError
from torana.core.snapshots import mounts

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWCGROUP: Final = 0x02000000
_CLONE_NEWPID: Final = 0x20000000
_READ_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a program finds changed: its devices cgroup (v1), and a cgroup2 at /sys/fs/cgroup."""

    device_cgroup: Path | None = None
    cgroup2: bool = False


async def launch(
    argv: Sequence[str], output: Output, surroundings: Surroundings, *, owner: int = 0
) -> int:
    """Run `argv` to its end, standard input empty, and give its code (128 + N for a signal N).

    The output pipes belong to `owner`, so that a process of that user may open /dev/stdout.
    Cancelling kills it with all its descendants, and waits until they are gone.

    Raises:
        RuntimeFailedError: it could not be started.
        UnsupportedError: `setpriv` or `unshare` is missing.
    """
    loop = asyncio.get_running_loop()
    pipes = [_Pipe(loop, stream, output, owner) for stream in (1, 2)]
    run = _Run([*_guards(), *argv], surroundings, [pipe.write_end for pipe in pipes])
    ended: asyncio.Future[int] = loop.create_future()

    def report(result: int | BaseException) -> None:
        if isinstance(result, int):
            ended.set_result(result)
        else:
            ended.set_exception(result)

    thread = threading.Thread(
        target=run.work,
        args=(lambda result: loop.call_soon_threadsafe(report, result),),
        name="torana-container",
    )
    thread.start()
    try:
        code = await asyncio.shield(ended)
        for pipe in pipes:
            await pipe.closed
        return code
    except asyncio.CancelledError:
        run.kill()
        await _outlast(ended)
        raise
    finally:
        for pipe in pipes:
            pipe.close()
        thread.join()


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

    def __init__(
        self, argv: Sequence[str], surroundings: Surroundings, outputs: Sequence[int]
    ) -> None:
        self._argv = argv
        self._surroundings = surroundings
        self._outputs = list(outputs)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_killed = False

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
            self._close_outputs()
        report(result)

    def _run(self) -> int:
        if self._surroundings.device_cgroup is not None:
            (self._surroundings.device_cgroup / "tasks").write_text("0")
        # A user namespace may mount a cgroup2 only with a cgroup namespace of its own.
        _unshare(_CLONE_NEWCGROUP if self._surroundings.cgroup2 else 0)
        mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_SLAVE)
        if self._surroundings.cgroup2:
            flags = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
            mounts.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags)
        with self._lock:
            if self._is_killed:
                return 128 + signal.SIGKILL
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=self._outputs[0],
                stderr=self._outputs[1],
                cwd="/",
                start_new_session=True,  # signals of the terminal are for us alone
            )
        self._close_outputs()
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _close_outputs(self) -> None:
        while self._outputs:
            os.close(self._outputs.pop())

    def kill(self) -> None:
        with self._lock:
            self._is_killed = True
            if self._process is not None:
                self._process.kill()


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

    def close(self) -> None:
        if self.closed.done():
            return
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        self.closed.set_result(None)


def _unshare(more: int) -> None:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS | _CLONE_NEWPID | more) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no new pid namespace: {os.strerror(number)}")


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
