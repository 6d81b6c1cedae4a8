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
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from torana.core.errors import ToranaError
from torana.core.records import dataclass
from torana.gateway.client.environment import FrontendEnvironment
from torana.gateway.runners.limits import Limits
from torana.gateway.runners.workers import WORKER

MODULE: Final = "torana.gateway.runners.serving"
CONFINED: Final = "--confined"
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_FAILED: Final = 1
_USAGE: Final = 2


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

    told = FrontendEnvironment.decode(environment)
    async with channel_over(*(gateway or take_stdio())) as channel:
        client = await RemoteClient.open(
            channel, options=told.options, session_id=told.session_id, workers=told.workers
        )
        try:
            result = await _built(served, client)
        except ToranaError as err:
            await client.fail(err)
            return _FAILED
        except asyncio.CancelledError as err:
            await client.fail(err)
            raise
        await client.finish(result)
        return 0


def serve_builds(served: Served, control: socket.socket) -> int:
    """Run the builds that `control` brings, one after the other, until it ends.

    Each has a fork of this process, which has loaded what the conversation needs, and nothing of
    the frontend: whatever a build changes (modules, folders, limits) ends with it. It is answered
    by its exit code.
    """
    from torana.gateway.client import remote, stdio  # noqa: F401  # before there are forks
    from torana.gateway.runners import crashes, inprocess, printing, stopping  # noqa: F401

    signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # the whole group is told of limits
    _hide_memory(is_hidden=True)
    has_more = False
    while (told := _next_build(control)) is not None:
        variables, gateway, errors = told
        child = os.fork()
        if not child:
            control.close()
            _end_with(served, variables, gateway, errors)
        os.close(gateway)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):  # its reader waits until nobody can write any more
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
        os.close(errors)
        _, status = os.waitpid(child, 0)
        _end_others()
        _empty(os.environ["TMPDIR"])
        code = os.waitstatus_to_exitcode(status)
        control.sendall(b"%d\n" % (code if code >= 0 else 128 - code))
        if not has_more:
            has_more = True
            _load_kit()
    return 0


def _end_with(served: Served, variables: Mapping[str, str], gateway: int, errors: int) -> NoReturn:
    """Run one build and end this process, a fork, with its exit code."""
    code = _FAILED
    try:
        die_with_parent()
        _hide_memory(is_hidden=False)
        for descriptor in (1, 2):
            os.dup2(errors, descriptor)
        os.close(errors)
        code = asyncio.run(serve_loading(served, variables, (gateway, os.dup(gateway))))
    except ToranaError as err:  # the engine is gone, most likely
        _complain(err)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _load_kit() -> None:
    """Load what most frontends are made with, while nobody waits for it."""
    with contextlib.suppress(ImportError):
        from torana.frontends import kit  # noqa: F401


def _hide_memory(*, is_hidden: bool) -> None:
    """Let no process of the same user trace this one, such as what a build leaves behind."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0 if is_hidden else 1, 0, 0, 0)


def _end_others() -> None:
    """Kill what the frontend has started, where this process is the first one of a namespace."""
    if os.getpid() != 1:
        return
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)


def _empty(folder: str) -> None:
    """Remove what is in a folder, as far as that can be done."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _next_build(control: socket.socket) -> tuple[Mapping[str, str], int, int] | None:
    """Wait for a build; gives its variables, its gateway and its standard error."""
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
                return serve_builds(served, control)
        return asyncio.run(serve_loading(served, os.environ))
    except ToranaError as err:
        _complain(err)
        return _FAILED


def _complain(error: ToranaError) -> None:
    print(f"ERROR: {error}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)


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
