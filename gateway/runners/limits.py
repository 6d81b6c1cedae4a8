"""`Limits`: what a frontend in a process of its own may use.

`TORANA_FRONTEND_LIMITS` changes them: `cpu=2m,memory=4g,output=16m,idle=10m`, in any order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from torana.core.errors import UsageError, UserError
from torana.core.quantities import parse_duration_s, parse_size
from torana.core.records import dataclass

VARIABLE: Final = "TORANA_FRONTEND_LIMITS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Amounts for one process.

    It is idle while no call of it is being answered and it makes no other: a frontend that computes
    is bounded by `cpu_s` long before.
    """

    memory_bytes: int = 2 << 30  # of address space
    cpu_s: int = 60
    output_bytes: int = 8 << 20  # on standard error, where its standard output goes, too
    idle_s: float = 300.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Limits:
        """Read the variable.

        Raises:
            UsageError: it is malformed.
        """
        found: dict[str, float] = {}
        for part in filter(None, environment.get(VARIABLE, "").split(",")):
            key, equals, value = part.strip().partition("=")
            try:
                match key if equals else "":
                    case "cpu":
                        found["cpu_s"] = max(1, int(parse_duration_s(_number(value))))
                    case "idle":
                        found["idle_s"] = parse_duration_s(_number(value))
                    case "memory" | "output":
                        size = parse_size(_number(value))
                        found[f"{key}_bytes"] = size.size_bytes
                    case _:
                        raise UsageError(
                            f"{VARIABLE}: unknown limit: `{part}`",
                            hint="known: `cpu`, `memory`, `output` and `idle`, as `NAME=VALUE`",
                        )
            except UsageError:
                raise
            except UserError as err:
                raise UsageError(f"{VARIABLE}: {key}: {err.message}", hint=err.hint) from err
        return cls(**found)  # type: ignore[arg-type]  # the keys are those above


def _number(text: str) -> str | int:
    return int(text) if text.isdigit() else text
