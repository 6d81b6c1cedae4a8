"""Steps get no more than their build was granted."""

from __future__ import annotations

import pytest

from torana.core.llb.ops import ExecOp, Meta, Mount, NetMode, SecurityMode
from torana.core.ops.exec.entitlements import NotEntitledError, check_entitlements


def step(network: NetMode = NetMode.UNSET, security: SecurityMode = SecurityMode.SANDBOX) -> ExecOp:
    return ExecOp(
        meta=Meta(args=("x",), cwd="/"),
        mounts=(Mount(input=0, dest="/", output=0),),
        network=network,
        security=security,
    )


def test_ordinary_steps_need_nothing() -> None:
    check_entitlements(step(), ())
    check_entitlements(step(network=NetMode.NONE), ())


@pytest.mark.parametrize(
    ("op", "name"),
    [
        (step(network=NetMode.HOST), "network.host"),
        (step(security=SecurityMode.INSECURE), "security.insecure"),
    ],
)
def test_rights_must_be_granted(op: ExecOp, name: str) -> None:
    check_entitlements(op, {name})
    with pytest.raises(NotEntitledError, match=f"^{name} is not allowed$"):
        check_entitlements(op, {"device"})
