"""Faults at the store's fault points: the process is killed there, or the disk is full.

A run without a fault counts the points it passes (`counted`); later runs fail at one of them
(`failing`). Threads may pass points in another order each time: a number is no exact place.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from torana.core.faults import set_fault_handler


class Fault(Enum):
    """What happens at a point."""

    KILL = "kill"  # SIGKILL
    NO_SPACE = "no space"  # ENOSPC once
    FULL = "full"  # ENOSPC from now on


class Points:
    """The points that were passed, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._lock = threading.Lock()

    def add(self, name: str) -> int:
        with self._lock:
            self.names.append(name)
            return len(self.names)


@contextmanager
def counted() -> Iterator[Points]:
    """Note the points that are passed while entered."""
    points = Points()
    set_fault_handler(points.add)
    try:
        yield points
    finally:
        set_fault_handler(None)


@contextmanager
def failing(number: int, fault: Fault) -> Iterator[Points]:
    """Let `fault` happen at the point that is passed as number `number`, from 1."""
    points = Points()

    def handle(name: str) -> None:
        passed = points.add(name)
        if passed < number or (passed > number and fault is not Fault.FULL):
            return
        if fault is Fault.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"fault point {name}")

    set_fault_handler(handle)
    try:
        yield points
    finally:
        set_fault_handler(None)
