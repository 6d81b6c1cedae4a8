"""`FrontendCrashedError`: a frontend has a bug. Says whose it is, and where."""

from __future__ import annotations

from torana.core.errors import ToranaError
from torana.plugins.loading import place_of


class FrontendCrashedError(ToranaError):
    """A frontend has a bug, or used what it may not use."""

    code = "FRONTEND_CRASHED"


def crash(what: str, error: BaseException, *, hint: str) -> FrontendCrashedError:
    """Make the error for one that is no `ToranaError`; `what` names the frontend."""
    text = str(error).splitlines()[0] if str(error) else ""
    kind = type(error).__name__
    shown = f"{kind}: {text}" if text else kind
    return FrontendCrashedError(f"frontend {what} crashed{place_of(error)}: {shown}", hint=hint)
