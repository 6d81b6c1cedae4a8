"""Durations and sizes as configuration files and flags write them.

Spec: buildkitd.toml: durations are Go's (`48h`, `1h30m`) or seconds; sizes are bytes, `512MB` (of
1024) or a share of the disk (`10%`).
"""

from __future__ import annotations

import re
from typing import Final

from torana.core.errors import UserError
from torana.core.records import dataclass

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h|d)")
_UNITS_S: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b)?", re.IGNORECASE)
_EXPONENTS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_UNKNOWN_SHARE_BYTES: Final = 2_000_000_000


class InvalidQuantityError(UserError):
    """A duration or size cannot be read."""

    code = "QUANTITY_INVALID"


@dataclass(frozen=True, slots=True)
class Size:
    """An amount of disk: `size_bytes`, or `percent` of the whole disk."""

    size_bytes: int = 0
    percent: int = 0

    def on(self, disk_bytes: int) -> int:
        """Give bytes on a disk of `disk_bytes`; shares are rounded up to whole 10^9 bytes.

        A share of a disk of unknown size (0) is 2 GB.

        Spec: reference of the daemon, section 3.
        """
        if not self.percent:
            return self.size_bytes
        if not disk_bytes:
            return _UNKNOWN_SHARE_BYTES
        return (disk_bytes * self.percent // 100 // (1 << 30) + 1) * 1_000_000_000


def parse_duration_s(value: str | int) -> float:
    """Give seconds.

    Raises:
        InvalidQuantityError: it is no duration.
    """
    if isinstance(value, int):
        return float(value)
    text = value.strip()
    if text.isdigit():
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidQuantityError(
            f"invalid duration: `{value}`", hint="for example `90s`, `1h30m` or `48h`"
        )
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def parse_size(value: str | int) -> Size:
    """Give a size.

    Raises:
        InvalidQuantityError: it is no size.
    """
    if isinstance(value, int):
        return Size(value)
    text = value.strip()
    if text.endswith("%") and text[:-1].isdigit() and int(text[:-1]) <= 100:
        return Size(percent=int(text[:-1]))
    found = _SIZE.fullmatch(text)
    if found is None:
        raise InvalidQuantityError(
            f"invalid size: `{value}`", hint="for example `512MB`, `20GB` or `10%`"
        )
    return Size(round(float(found[1]) * 1024 ** _EXPONENTS[found[2].lower()]))
