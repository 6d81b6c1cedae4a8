"""Garbage collection after builds without a daemon: by a process of its own that nobody waits for.

It is started at most once a minute, and only if the rules may have something to delete, or what was
removed is still on the disk. The variable `TORANA_GC` says `off`, or sets limits:
`max-used-space=20GB,min-free-space=10%`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from torana.core.errors import UsageError
from torana.core.worker import Worker

if TYPE_CHECKING:
    from torana.core.cache.policy import GCPolicy
    from torana.core.cache.usage import UsageRecord
    from torana.core.quantities import Size

log = logging.getLogger(__name__)
_VARIABLE: Final = "TORANA_GC"
_STAMP: Final = "collected"
_INTERVAL_S: Final = 60.0
_SLICE_PAUSE_S: Final = 0.02
# Not the lowest: who holds the database's lock for a moment must not starve on a busy machine.
_NICENESS: Final = 10
_KEPT: Final = re.compile(r"PATH|HOME|LANG|LC_.*|TMPDIR|LD_LIBRARY_PATH|PYTHON.*|TORANA_.*")
_LIMITS: Final = {
    "reserved-space": "reserved",
    "max-used-space": "max_used",
    "min-free-space": "min_free",
}


def limits(environment: Mapping[str, str] = os.environ) -> Mapping[str, Size] | None:
    """Give what the variable sets, by the names of `default_policies`; None if it says `off`.

    Raises:
        UsageError: it says something else.
    """
    text = environment.get(_VARIABLE, "")
    if text == "off":
        return None
    found: dict[str, Size] = {}
    if not text:
        return found
    from torana.core.quantities import InvalidQuantityError, parse_size

    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            found[_LIMITS[name]] = parse_size(value)
        except (KeyError, InvalidQuantityError):
            raise UsageError(
                f"invalid {_VARIABLE}: `{text}`",
                hint="`off`, or for example `max-used-space=20GB,min-free-space=10%`",
            ) from None
    return found


def policies(root: Path) -> Sequence[GCPolicy]:
    """Give the rules for a store; none when collecting is turned off."""
    from torana.core.cache.policy import Disk, default_policies

    wanted = limits()
    return () if wanted is None else default_policies(Disk.of(root), **wanted)


def is_due(worker: Worker) -> bool:
    """Say whether collecting is worth a look now."""
    try:
        last = (worker.root / _STAMP).stat().st_mtime
    except FileNotFoundError:
        last = 0.0
    if 0 <= time.time() - last < _INTERVAL_S:
        return False
    from torana.core.cache.policy import Disk, may_matter

    rules = policies(worker.root)
    if not rules:
        return False
    if worker.refs.has_trash():  # of a step that failed, for one
        return True
    disk = Disk.of(worker.root)
    # The cache cannot take more than what is taken.
    used_bytes = disk.total_bytes - disk.free_bytes
    return may_matter(rules, used_bytes, worker.refs.records.oldest_use(), disk)


def kept_environment(root: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give what the process needs: no secrets of a build that it would keep after its end."""
    kept = {key: value for key, value in environment.items() if _KEPT.fullmatch(key)}
    return {**kept, "TORANA_ROOT": str(root.absolute())}


def start(root: Path) -> None:
    """Start the process; it outlives this one."""
    import subprocess
    import threading

    try:
        process = subprocess.Popen(
            # Not from the working folder: it may be anybody's build context.
            [sys.executable, "-P", "-m", "torana", "debug", "collect-garbage"],
            env=kept_environment(root),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as err:
        log.warning("cannot start garbage collection: %s", err)
        return
    threading.Thread(target=process.wait, daemon=True).start()  # no zombie in long-lived programs


def collect(worker: Worker) -> list[UsageRecord]:
    """Collect now, slowly and at low priority; nothing while another process does."""
    os.nice(_NICENESS)
    (worker.root / _STAMP).touch()
    return worker.upkeep.prune(policies(worker.root), pause_s=_SLICE_PAUSE_S, is_waiting=False)
