"""Limits of frontends, as a user writes them."""

from __future__ import annotations

import pytest

from torana.core.errors import UsageError
from torana.gateway.runners.limits import VARIABLE, Limits


def test_read() -> None:
    assert Limits.from_environment({}) == Limits()
    text = "cpu=2m, memory=4g,output=1m,idle=90"
    assert Limits.from_environment({VARIABLE: text}) == Limits(
        cpu_s=120, memory_bytes=4 << 30, output_bytes=1 << 20, idle_s=90.0
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("cpu", "unknown limit: `cpu`"), ("ram=1g", "unknown limit"), ("cpu=soon", "cpu: ")],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Limits.from_environment({VARIABLE: text})
