"""What a build must have been granted for its steps.

Spec: reference of exec, section 18.
"""

from __future__ import annotations

from collections.abc import Container

from torana.core.errors import UserError
from torana.core.llb.ops import ExecOp, NetMode, SecurityMode


class NotEntitledError(UserError):
    """A step wants a right that the build was not granted."""

    code = "NOT_ENTITLED"


def check_entitlements(op: ExecOp, granted: Container[str]) -> None:
    """Compare what a step wants with what is granted.

    Raises:
        NotEntitledError: it wants more.
    """
    wanted = []
    if op.network is NetMode.HOST:
        wanted.append("network.host")
    if op.security is SecurityMode.INSECURE:
        wanted.append("security.insecure")
    for name in wanted:
        if name not in granted:
            raise NotEntitledError(f"{name} is not allowed", hint=f"grant it with `--allow {name}`")
