"""What is left to read after a runtime's program has ended: its log, and whom the kernel killed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

LOG: Final = "log.json"  # of the first process, in the container's directory

_NOT_STARTED: Final = re.compile(
    r"(?:open executable|executable file `.*` not found(?: in \$PATH)?): (?P<reason>.+)"
)


def failure(log: Path) -> str:
    """Give the last error in the program's log, or nothing."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    errors = [entry["msg"] for entry in map(_entry, lines) if entry.get("level") == "error"]
    return str(errors[-1]) if errors else ""


def of_program(said: str, program: str) -> str:
    """Give crun's words on a program that it does not start as runc has them, all else as it is."""
    found = _NOT_STARTED.fullmatch(said)
    if found is None:
        return said
    reason = found["reason"].lower()
    if said.startswith("executable file") and "/" not in program:
        reason = "executable file not found in $PATH"
    return f'exec: "{program}": {reason}'


def _entry(line: str) -> dict[str, Any]:
    """Read a line of either format: JSON, or a text that is the error."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {"msg": line, "level": "error"} if line.strip() else {}
    return entry if isinstance(entry, dict) and "msg" in entry else {}


def kernel_kills() -> int:
    """Count the processes that the kernel has killed for want of memory since the start."""
    try:
        with open("/proc/vmstat", "rb") as file:
            found = file.read().partition(b"\noom_kill ")[2]
    except OSError:
        return 0
    return int(found.split(maxsplit=1)[0]) if found else 0
