"""How frontends fail: with a bug, by using what they may not use, or by using too much of it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torana.core.errors import ToranaError
from torana.gateway.runners.limits import VARIABLE, Limits
from torana.plugins.loading import place_of

if TYPE_CHECKING:
    from torana.gateway.runners.printing import Printed

_NO_NETWORK = (
    "frontends have no network: the build fetches for them, by sources such as `http` and `git`"
)
_NO_FILES = "frontends see only their own files: those of the build are read through the client"
_NETWORK_ERRORS = (
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EADDRNOTAVAIL,
    errno.ECONNREFUSED,
    errno.ENETDOWN,
)


class FrontendCrashedError(ToranaError):
    """A frontend has a bug, or used what it may not use."""

    code = "FRONTEND_CRASHED"


class FrontendPrintedError(ToranaError):
    """A frontend wrote to standard output, which is not its own."""

    code = "FRONTEND_PRINTED"


class FrontendLimitError(ToranaError):
    """A frontend used too much time or wrote too much."""

    code = "FRONTEND_LIMIT"


def crash(what: str, error: BaseException, *, hint: str) -> FrontendCrashedError:
    """Make the error for one that is no `ToranaError`; `what` names the frontend."""
    text = str(error).splitlines()[0] if str(error) else ""
    kind = type(error).__name__
    shown = f"{kind}: {text}" if text else kind
    return FrontendCrashedError(f"frontend {what} crashed{place_of(error)}: {shown}", hint=hint)


def prints(what: str, printed: Printed) -> FrontendPrintedError:
    """Make the error for one that builds, but prints."""
    text = f": `{printed.text}`" if printed.text else ""
    return FrontendPrintedError(
        f"frontend {what} printed to standard output{printed.place}{text}",
        hint="frontends give a result and nothing else: `client.warn` warns who builds, "
        "`print(..., file=sys.stderr)` is shown in the log",
    )


def confinement_hint(error: BaseException, limits: Limits) -> str | None:
    """Say which part of its confinement a frontend ran into, None if it was none."""
    for each in _chain(error):
        if isinstance(each, MemoryError):
            size = f"{limits.memory_bytes / (1 << 30):.3g} GiB"
            return f"frontends may use {size} of memory; {VARIABLE}=memory=4g says otherwise"
        if isinstance(each, socket.gaierror):
            return _NO_NETWORK
        if isinstance(each, OSError):
            if each.errno in _NETWORK_ERRORS:
                return _NO_NETWORK
            if each.errno in (errno.ENOENT, errno.EACCES, errno.EROFS, errno.EPERM):
                name = os.fsdecode(each.filename) if isinstance(each.filename, str | bytes) else ""
                if os.path.isabs(name):
                    return _NO_FILES
    return None


def cpu_limit(what: str, place: str, limits: Limits) -> FrontendLimitError:
    return FrontendLimitError(
        f"frontend {what} was stopped{place}: it used {limits.cpu_s} s of processor time",
        hint=f"does it loop? {VARIABLE}=cpu=5m lets it go on for longer",
    )


def idle_limit(what: str, place: str, limits: Limits) -> FrontendLimitError:
    return FrontendLimitError(
        f"frontend {what} was stopped{place}: it did nothing for {limits.idle_s:g} s",
        hint=f"does it wait for something that never comes? {VARIABLE}=idle=1h gives it longer",
    )


def output_limit(what: str, limits: Limits) -> FrontendLimitError:
    size = f"{limits.output_bytes / (1 << 20):.3g} MiB"
    return FrontendLimitError(
        f"frontend {what} was stopped: it wrote more than {size}",
        hint=f"{VARIABLE}=output=64m lets it write more",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        reason = getattr(error, "reason", None)  # where urllib puts what happened
        if isinstance(reason, BaseException):
            yield reason
        error = error.__cause__ or error.__context__
