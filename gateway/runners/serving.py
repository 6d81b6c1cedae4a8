"""Runs a frontend in this process for an engine at the other end of standard input and output.

The entry point of frontend processes and of frontend images, ours as well as stock BuildKit's:
`python -m torana.gateway.runners.serving NAME`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from torana.core.errors import ToranaError
from torana.core.records import dataclass
from torana.gateway.client.environment import FrontendEnvironment
from torana.gateway.runners.limits import WARM_SHARE, Limits
from torana.gateway.runners.workers import WORKER

MODULE: Final = "torana.gateway.runners.serving"
CONFINED: Final = "--confined"
_PR_SET_PDEATHSIG: Final = 1
_FAILED: Final = 1
_USAGE: Final = 2
_FAULT: Final = 3


@dataclass(frozen=True, slots=True)
class Served:
    """A frontend to be run: how it is loaded, and how it is called in messages."""

    load: Callable[[], Any]
    described: str
    limits: Limits | None = None  # those it is confined to


async def serve(frontend: Any, environment: Mapping[str, str]) -> int:
    """Run `frontend` once and give the exit code.

    Raises:
        ToranaError: there is no engine to talk to.
    """
    name = getattr(frontend, "name", type(frontend).__name__)
    return await serve_loading(Served(lambda: frontend, f"`{name}`"), environment)


async def serve_loading(
    served: Served, environment: Mapping[str, str], gateway: tuple[int, int] | None = None
) -> int:
    """Load a frontend, run it once and give the exit code; the engine is told what goes wrong.

    The gateway is two descriptors, for reading and writing; None: standard input and output.

    Raises:
        ToranaError: there is no engine to talk to.
    """
    from torana.gateway.client.remote import RemoteClient
    from torana.gateway.client.stdio import channel_over, take_stdio
    from torana.gateway.runners.crashes import FrontendFaultError

    told = FrontendEnvironment.decode(environment)
    async with channel_over(*(gateway or take_stdio())) as channel:
        client = await RemoteClient.open(
            channel, options=told.options, session_id=told.session_id, workers=told.workers
        )
        try:
            result = await _built(served, client)
        except ToranaError as err:
            await client.fail(err)
            return _FAULT if isinstance(err, FrontendFaultError) else _FAILED
        except asyncio.CancelledError as err:
            await client.fail(err)
            raise
        await client.finish(result)
        return 0


async def serve_builds(served: Served, control: socket.socket) -> int:
    """Run the builds that `control` brings, one after the other, until it ends.

    Each is answered by its exit code, and whether there may be another one here: not after a
    fault of the frontend, and not when half of the processor time that a build may use is gone.
    """
    limit_s = None if served.limits is None else served.limits.cpu_s * WARM_SHARE
    stays = True
    while stays:
        told = await _next_build(control)
        if told is None:
            break
        variables, gateway, errors = told
        for descriptor in (1, 2):
            os.dup2(errors, descriptor)
        os.close(errors)
        try:
            code = await serve_loading(served, variables, (gateway, os.dup(gateway)))
        finally:
            _end_others()
            sys.stdout.flush()
            sys.stderr.flush()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for descriptor in (1, 2):  # its reader waits until nobody can write any more
                os.dup2(nowhere, descriptor)
            os.close(nowhere)
        stays = code != _FAULT and (limit_s is None or time.process_time() < limit_s)
        control.sendall(b"%d %d\n" % (code, stays))
    return 0


def _end_others() -> None:
    """Kill what the frontend has started, where this process is the first one of a namespace."""
    if os.getpid() != 1:
        return
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)


async def _next_build(control: socket.socket) -> tuple[Mapping[str, str], int, int] | None:
    """Wait for a build; gives its variables, its gateway and its standard error."""
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(control, waiting.set)
    try:
        await waiting.wait()
    finally:
        loop.remove_reader(control)
    data, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 2)
    while data and not data.endswith(b"\n"):
        more = control.recv(1 << 16)
        if not more:
            return None
        data += more
    if not data or len(descriptors) != 2:
        return None
    return json.loads(data), descriptors[0], descriptors[1]


async def _built(served: Served, client: Any) -> Any:
    """Give the result of the frontend; whatever it raises comes out as an error of ours."""
    from torana.gateway.runners.crashes import confinement_hint, crash, prints
    from torana.gateway.runners.inprocess import checked
    from torana.gateway.runners.printing import noting
    from torana.gateway.runners.stopping import Stopper

    with noting(is_process=True) as printed, Stopper(served.described, served.limits) as stopper:
        try:
            result = checked(await served.load().build(client), served.described)
        except ToranaError:
            raise
        except (Exception, SystemExit) as err:
            if stopper.error is not None:  # it made something else of being stopped
                raise stopper.error from None
            traceback.print_exc()
            hint = None if served.limits is None else confinement_hint(err, served.limits)
            hint = hint or "its traceback is in the output above"
            raise crash(served.described, err, hint=hint) from err
        except BaseException:
            if stopper.error is not None:
                raise stopper.error from None
            raise
        if printed.is_any:
            raise prints(served.described, printed)
        return result


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends, however that may be."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Run the frontend that is named by the last argument, confined if the first one says so."""
    *flags, name = arguments or [""]
    if not {*flags} <= {CONFINED, WORKER} or not name:
        print(f"usage: python -m {MODULE} [{CONFINED}] NAME", file=sys.stderr)
        return _USAGE
    die_with_parent()
    try:
        served = _served(name, is_confined=CONFINED in flags)
        if WORKER in flags:
            with socket.socket(fileno=_take_control()) as control:
                return asyncio.run(serve_builds(served, control))
        return asyncio.run(serve_loading(served, os.environ))
    except ToranaError as err:
        print(f"ERROR: {err}", file=sys.stderr)
        if err.hint:
            print(f"hint: {err.hint}", file=sys.stderr)
        return _FAILED


def _take_control() -> int:
    """Take the socket that is standard input; nothing that a frontend reads comes from it."""
    taken = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return taken


def _served(name: str, *, is_confined: bool) -> Served:
    """Find a frontend, then enter confinement with it in sight; it is loaded later.

    Raises:
        ToranaError: there is none, or confinement is not to be had.
    """
    from torana.gateway.runners.inprocess import load_local
    from torana.plugins.manager import PluginManager
    from torana.plugins.selection import local_choice

    limits = Limits.from_environment() if is_confined else None
    local = local_choice(name)
    if local is not None:
        paths, packages = [str(local.path.parent)], []
        served = Served(lambda: load_local(local), f"`{local.path.name}`", limits)
    else:
        plugins = PluginManager()
        found = plugins.find_frontend(name)
        paths, packages = [], [found.target.partition(".")[0].partition(":")[0].strip()]
        described = f"`{found.name}`" if found.is_builtin else str(found)
        served = Served(lambda: plugins.load(found), described, limits)
    if limits is not None:
        from torana.gateway.runners.confinement import confine
        from torana.gateway.runners.privateroot import python_paths

        confine(os.environ["TMPDIR"], limits, [*python_paths(*packages), *paths])
    return served


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
