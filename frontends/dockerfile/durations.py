"""Durations as Go reads them: `1m30s`, `500ms`, `1.5h`."""

from __future__ import annotations

import re
from typing import Final

from torana.frontends.dockerfile.quoting import go_quote

_PART: Final = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)")
_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_MAX: Final = (1 << 63) - 1


def parse_duration(text: str) -> int:
    """Give nanoseconds.

    Raises:
        ValueError: malformed, in the words of Go.
    """
    quoted = go_quote(text)
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f"time: invalid duration {quoted}")
    total = 0
    while rest:
        match = _PART.match(rest)
        assert match is not None  # every part is optional
        whole, fraction, unit = match[1], match[2] or "", match[3]
        if not whole and len(fraction) < 2:
            raise ValueError(f"time: invalid duration {quoted}")
        if not unit:
            raise ValueError(f"time: missing unit in duration {quoted}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {go_quote(unit)} in duration {quoted}")
        scale = _UNITS[unit]
        total += int(whole or "0") * scale
        if len(fraction) > 1:
            total += int(fraction[1:]) * scale // 10 ** (len(fraction) - 1)
        if total > _MAX:
            raise ValueError(f"time: invalid duration {quoted}")
        rest = rest[match.end() :]
    return sign * total
