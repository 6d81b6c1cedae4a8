"""`Traces`: what a running step has of the machine, and what of it is left later."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_KINDS = ("mnt", "pid", "ipc", "uts", "net", "cgroup", "user")
_LIMIT_S = 60.0  # generous: machines may be slow, nothing is gated on time


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: it takes too long.
    """
    deadline = time.monotonic() + _LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


@dataclass(frozen=True)
class Traces:
    """Of steps whose arguments have `mark`, run by engines on `root`."""

    root: Path
    mark: str

    def processes(self) -> list[int]:
        """Give processes that have the mark or the root among their arguments, but for ours."""
        return [
            pid
            for pid, line in _command_lines()
            if self.mark in line or (str(self.root) in line and "torana" not in line)
        ]

    def engines(self) -> list[int]:
        """Give processes that were started for the root: engines, and what they leave to others."""
        variable = f"TORANA_ROOT={self.root}".encode()
        return [pid for pid, _ in _command_lines() if variable in _variables(pid)]

    def namespaces(self) -> set[str]:
        """Give the namespaces of the step's processes that are not those of the test."""
        return {
            name for pid, line in _command_lines() if self.mark in line for name in _namespaces(pid)
        } - set(_namespaces(os.getpid()))

    def namespaces_of(self, pid: int | None) -> set[str]:
        """Give the namespaces of one process, none for None."""
        return set() if pid is None else set(_namespaces(pid))

    def mounts(self) -> set[str]:
        """Give mount points below the root, in any process's view."""
        found = set()
        for pid, _ in _command_lines():
            try:
                table = Path(f"/proc/{pid}/mountinfo").read_text()
            except OSError:
                continue
            points = (line.split()[4] for line in table.splitlines())
            found |= {point for point in points if point.startswith(f"{self.root}/")}
        return found

    def groups(self, tokens: set[str]) -> list[str]:
        """Give cgroups of containers whose ids start with one of `tokens`."""
        return [
            os.path.join(top, name)
            for top, names, _ in os.walk("/sys/fs/cgroup")
            for name in names
            if name[:8] in tokens
        ]

    def tokens(self) -> set[str]:
        """Give what the ids of running containers start with."""
        return {path.name.rpartition("-")[2] for path in self.folders()}

    def folders(self) -> list[Path]:
        """Give the folders in which engines keep what belongs to running containers."""
        executor = self.root / "executor"
        return [path for path in executor.iterdir() if path.is_dir()] if executor.is_dir() else []

    def alive(self, namespaces: set[str]) -> set[str]:
        """Give those of `namespaces` that a process is still in.

        Zombies do not count: they wait for the machine's init, which may take its time. Ask before
        anything else starts, since the kernel gives numbers of namespaces again.
        """
        return namespaces & {name for pid, _ in _command_lines() for name in _namespaces(pid)}


def _command_lines() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                line = Path("/proc", name, "cmdline").read_bytes()
            except OSError:
                continue
            yield int(name), line.decode(errors="replace")


def _variables(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _namespaces(pid: int) -> list[str]:
    found: list[str] = []
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return found
    except OSError:
        return found
    for kind in _KINDS:
        try:
            found.append(os.readlink(f"/proc/{pid}/ns/{kind}"))
        except OSError:
            continue
    return found
