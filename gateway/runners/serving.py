"""Runs a frontend in this process for an engine at the other end of standard input and output.

The entry point of frontend processes and of frontend images, ours as well as stock BuildKit's:
`python -m torana.gateway.runners.serving NAME`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final

from torana.core.errors import ToranaError
from torana.gateway.client.environment import FrontendEnvironment

MODULE: Final = "torana.gateway.runners.serving"
CONFINED: Final = "--confined"
_PR_SET_PDEATHSIG: Final = 1
_FAILED: Final = 1
_USAGE: Final = 2


async def serve(frontend: Any, environment: Mapping[str, str]) -> int:
    """Run `frontend` once and give the exit code.

    Raises:
        ToranaError: there is no engine to talk to.
    """
    from torana.gateway.client.remote import RemoteClient
    from torana.gateway.client.stdio import channel_over, take_stdio

    told = FrontendEnvironment.decode(environment)
    async with channel_over(*take_stdio()) as channel:
        client = await RemoteClient.open(
            channel, options=told.options, session_id=told.session_id, workers=told.workers
        )
        try:
            result = await frontend.build(client)
        except ToranaError as err:
            await client.fail(err)
            return _FAILED
        except asyncio.CancelledError as err:
            await client.fail(err)
            raise
        except Exception as err:
            traceback.print_exc()
            await client.fail(_crash(frontend, err))
            return _FAILED
        await client.finish(result)
        return 0


def _crash(frontend: Any, error: Exception) -> ToranaError:
    from torana.gateway.runners.crashes import crash

    name = getattr(frontend, "name", type(frontend).__name__)
    return crash(f"`{name}`", error, hint="its traceback is in the output above")


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends, however that may be."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Run the frontend that is named by the last argument, confined if the first one says so."""
    from torana.plugins.manager import PluginManager

    *flags, name = arguments or [""]
    if flags not in ([], [CONFINED]) or not name:
        print(f"usage: python -m {MODULE} [{CONFINED}] NAME", file=sys.stderr)
        return _USAGE
    die_with_parent()
    try:
        if flags:
            from torana.gateway.runners.confinement import Limits, confine

            confine(os.environ["TMPDIR"], Limits())
        return asyncio.run(serve(PluginManager().frontend(name), os.environ))
    except ToranaError as err:
        print(f"ERROR: {err}", file=sys.stderr)
        if err.hint:
            print(f"hint: {err.hint}", file=sys.stderr)
        return _FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
