"""Limits of steps: how they are read, and that the stricter one counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.errors import UsageError
from torana.core.llb.ops import LinuxResources
from torana.core.ops.exec.limits import StepLimits


def test_environment() -> None:
    assert StepLimits.from_environment({}) == StepLimits(pids=16384)
    told = {"TORANA_STEP_PIDS": "0", "TORANA_STEP_MEMORY": "2GB", "TORANA_STEP_CPUS": "1.5"}
    assert StepLimits.from_environment(told) == StepLimits(pids=0, memory_bytes=2 << 30, cpus=1.5)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TORANA_STEP_PIDS", "many"),
        ("TORANA_STEP_PIDS", "-1"),
        ("TORANA_STEP_MEMORY", "2 apples"),
        ("TORANA_STEP_CPUS", "nan"),
        ("TORANA_STEP_CPUS", "inf"),
    ],
)
def test_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: no amount: `{text}`"):
        StepLimits.from_environment({name: text})


def test_no_limits_change_nothing() -> None:
    assert StepLimits().narrow(None) is None
    wanted = LinuxResources(memory=1)
    assert StepLimits().narrow(wanted) is wanted


amounts = st.integers(1, 1 << 40)


@given(limit=amounts, memory=st.just(0) | amounts, swap=st.sampled_from([0, -1]) | amounts)
def test_memory(limit: int, memory: int, swap: int) -> None:
    given_ = StepLimits(memory_bytes=limit).narrow(LinuxResources(memory=memory, memory_swap=swap))
    assert given_ is not None
    assert 0 < given_.memory <= limit
    assert 0 < given_.memory_swap <= limit
    assert given_.memory == (min(memory, limit) if memory else limit)


def test_processors() -> None:
    limits = StepLimits(cpus=1.5)
    assert limits.narrow(None) == LinuxResources(cpu_period=100_000, cpu_quota=150_000)
    less = LinuxResources(cpu_period=50_000, cpu_quota=10_000, cpu_shares=5)
    assert limits.narrow(less) == less
    more = LinuxResources(cpu_period=50_000, cpu_quota=500_000)
    assert limits.narrow(more) == LinuxResources(cpu_period=50_000, cpu_quota=75_000)
