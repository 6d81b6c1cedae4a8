"""Choosing the runtime: the first one whose start test passes, and why others did not."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from torana.core.errors import UnsupportedError
from torana.core.ops.runtime import Runtime
from torana.core.records import dataclass

_MEMO: Final = "runtimes.json"


@dataclass(frozen=True, slots=True)
class Choice:
    """The runtime to use; `refused` has name and reason of those that were preferred to it."""

    runtime: Runtime
    refused: tuple[tuple[str, str], ...] = ()
    is_wanted: bool = False

    @property
    def reason(self) -> str:
        """Say why it was taken."""
        if self.is_wanted:
            return "asked for; its start test passed"
        if not self.refused:
            return "preferred; its start test passed"
        names = " and ".join(name for name, _ in self.refused)
        return f"the first whose start test passed, after {names}"


async def choose_runtime(
    runtimes: Sequence[Runtime], directory: Path, *, wanted: str = ""
) -> Choice:
    """Try `runtimes` in order, or the one that is called `wanted`.

    A passed test is remembered in `directory` until the program or the boot is another one.

    Raises:
        UnsupportedError: none can start a container; the text has all reasons.
    """
    candidates = [runtime for runtime in runtimes if not wanted or runtime.name == wanted]
    if not candidates:
        known = ", ".join(f"`{runtime.name}`" for runtime in runtimes)
        raise UnsupportedError(f"no such container runtime: `{wanted}`", hint=f"known: {known}")
    directory.mkdir(parents=True, exist_ok=True)
    memo = directory / _MEMO
    passed = _load(memo)
    refused: list[tuple[str, str]] = []
    for runtime in candidates:
        fingerprint = _fingerprint(runtime)
        if fingerprint and passed.get(runtime.name) == fingerprint:
            return Choice(runtime, tuple(refused), is_wanted=bool(wanted))
        why_not = await runtime.probe(directory)
        if why_not is None:
            _save(memo, {**passed, runtime.name: fingerprint})
            return Choice(runtime, tuple(refused), is_wanted=bool(wanted))
        refused.append((runtime.name, why_not))
    reasons = "; ".join(f"{name}: {why_not}" for name, why_not in refused)
    raise UnsupportedError(f"no container runtime works: {reasons}", hint=_advice(refused))


def _advice(refused: Sequence[tuple[str, str]]) -> str:
    if all("not on PATH" in why_not for _, why_not in refused):
        return "install `crun` or `runc`, or `pip install 'torana[sandbox]'`"
    if any("mount /proc failed" in why_not for _, why_not in refused):
        return (
            "parts of /proc are hidden here, as in containers: start the container with "
            "`--security-opt systempaths=unconfined`"
        )
    return "steps need namespaces: run as root, or where user namespaces are allowed"


def _fingerprint(runtime: Runtime) -> str:
    """Name program, boot and rights; empty for a runtime that has no program to name."""
    program = getattr(runtime, "program", None)
    if not isinstance(program, str):
        return ""
    try:
        found = os.stat(program)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        mapping = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return ""
    parts = (program, found.st_mtime_ns, found.st_size, found.st_ino, boot, *mapping)
    return " ".join(map(str, parts))


def _load(memo: Path) -> dict[str, str]:
    try:
        found = json.loads(memo.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _save(memo: Path, passed: dict[str, str]) -> None:
    draft = memo.with_name(f"{memo.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(passed))
        draft.replace(memo)
    except OSError:  # the test runs again next time, nothing else
        return
