"""`StepLimits`: what one step may use at most, whatever it asks for. Pure.

Spec: reference of exec, section 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from torana.core.errors import UsageError
from torana.core.llb.ops import LinuxResources
from torana.core.quantities import InvalidQuantityError, parse_size
from torana.core.records import dataclass

_DEFAULT_PIDS: Final = 16384  # far more than builds have, far fewer than bring a machine down
_PERIOD_US: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """Limits of a worker for each of its steps; 0 is none."""

    pids: int = _DEFAULT_PIDS  # processes and threads at once
    memory_bytes: int = 0
    cpus: float = 0.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> StepLimits:
        """Read `TORANA_STEP_PIDS`, `TORANA_STEP_MEMORY` (`2GB`) and `TORANA_STEP_CPUS` (`1.5`).

        Raises:
            UsageError: one of them cannot be understood.
        """
        read = partial(_number, environment)
        return cls(
            pids=int(read("TORANA_STEP_PIDS", int, _DEFAULT_PIDS)),
            memory_bytes=int(read("TORANA_STEP_MEMORY", _size_bytes, 0)),
            cpus=read("TORANA_STEP_CPUS", float, 0.0),
        )

    def narrow(self, wanted: LinuxResources | None) -> LinuxResources | None:
        """Give what a step gets that wants `wanted`: the stricter one of each limit."""
        if not self.memory_bytes and not self.cpus:
            return wanted
        given = wanted or LinuxResources()
        if self.memory_bytes:
            limit = self.memory_bytes
            given = replace(
                given,
                memory=min(given.memory or limit, limit),
                memory_swap=min(given.memory_swap, limit) if given.memory_swap > 0 else limit,
            )
        if self.cpus:
            period = given.cpu_period or _PERIOD_US
            quota = int(self.cpus * period)
            if given.cpu_quota > 0:
                quota = min(quota, given.cpu_quota)
            given = replace(given, cpu_period=period, cpu_quota=quota)
        return given


def _size_bytes(text: str) -> int:
    return parse_size(text).size_bytes


def _number(
    environment: Mapping[str, str], name: str, parse: Callable[[str], float], default: float
) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = parse(text)
    except (ValueError, InvalidQuantityError):
        value = -1
    if not 0 <= value < math.inf:
        raise UsageError(f"{name}: no amount: `{text}`")
    return value
