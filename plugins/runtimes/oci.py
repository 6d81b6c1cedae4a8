"""`OCIRuntime`: containers by a program with the command line of runc."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from torana.core.llb.ops import LinuxResources
from torana.core.ops.runtime import (
    ContainerMount,
    ContainerSpec,
    ExitStatus,
    Output,
    RuntimeFailedError,
)
from torana.core.pool import run_blocking
from torana.plugins.runtimes import cgroups
from torana.plugins.runtimes.launcher import Surroundings, launch
from torana.plugins.runtimes.spec import HostTraits, cgroup_path, oci_spec

_SYSTEM_FOLDERS: Final = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix", "/gnu")
_KILLED: Final = 137


class OCIRuntime:
    """Writes the bundle, runs the program once, reads its log for what went wrong.

    Subclasses say what is special: `traits`, `surroundings` and `flags`.
    """

    name = "oci"

    def __init__(self, program: str | None = None) -> None:
        self._program = program or _find(self.name)

    @property
    def program(self) -> str | None:
        """Path of the program, None where it is not installed."""
        return self._program

    def traits(self) -> HostTraits:
        """Say what the machine allows; called for each run, so answers should be remembered."""
        raise NotImplementedError

    def surroundings(self, spec: ContainerSpec) -> Surroundings:
        return Surroundings()

    def flags(self) -> Sequence[str]:
        """Give options that stand before the command."""
        return ()

    async def probe(self, directory: Path) -> str | None:
        """Start `true` out of the host's own folders."""
        if self._program is None:
            return "not on PATH"
        true = shutil.which("true")
        if true is None:
            return "no `true` on PATH to test it with"
        place = directory / f"probe-{self.name}-{os.getpid()}"
        rootfs = place / "rootfs"
        rootfs.mkdir(parents=True)
        folders = [os.path.realpath(path) for path in _SYSTEM_FOLDERS if os.path.isdir(path)]
        spec = ContainerSpec(
            id=f"torana-{place.name}",
            directory=place,
            rootfs=rootfs,
            args=(true,),
            env=("PATH=/usr/bin:/bin",),
            hostname="probe",
            mounts=tuple(
                ContainerMount(destination=path, source=source, options=("ro",))
                for path, source in zip(
                    (path for path in _SYSTEM_FOLDERS if os.path.isdir(path)), folders, strict=True
                )
            ),
        )
        said: list[bytes] = []
        try:
            status = await self.run(spec, lambda _, data: said.append(data))
        except Exception as err:  # whatever is wrong, the next runtime may do
            return str(err)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if status.code == 0:
            return None
        return f"code {status.code}: {b''.join(said).decode(errors='replace').strip()}"

    async def run(self, spec: ContainerSpec, output: Output) -> ExitStatus:
        if self._program is None:
            raise RuntimeFailedError(f"`{self.name}` is not on PATH")
        if self.traits().manages_cgroups:
            _sweep_once()
        elif spec.cgroup_parent or spec.resources not in (None, LinuxResources()):
            output(2, f"{self.name} manages no cgroups here: limits are not kept\n".encode())
        bundle = str(spec.directory)
        log = spec.directory / "log.json"
        document = json.dumps(oci_spec(spec, self.traits()))
        (spec.directory / "config.json").write_text(document, encoding="utf-8")
        command = [
            self._program,
            f"--root={bundle}/state",
            f"--log={log}",
            "--log-format=json",
            *self.flags(),
            "run",
            f"--bundle={bundle}",
            spec.id,
        ]
        kills = _kernel_kills()
        try:
            code = await launch(command, output, self.surroundings(spec), owner=spec.user.uid)
        except asyncio.CancelledError:
            await self._clean_up(spec)
            raise
        if code == 0:
            return ExitStatus(0)
        failure = _failure(log)
        if failure:
            prefix = f"{self.name} run failed: "
            raise RuntimeFailedError(prefix + failure.removeprefix(prefix))
        if code == _KILLED and (spec.directory / "state" / spec.id).exists():
            # The program itself was killed, by the kernel or by hand, and left its cgroups.
            await self._clean_up(spec)
        return ExitStatus(code, is_out_of_memory=code == _KILLED and _kernel_kills() > kills)

    async def _clean_up(self, spec: ContainerSpec) -> None:
        """Remove what a killed program left outside of its folder: cgroups."""
        if self.traits().manages_cgroups:
            await run_blocking(cgroups.remove_group, cgroup_path(spec))


@cache
def _sweep_once() -> None:
    cgroups.sweep()


def _find(name: str) -> str | None:
    # Runtimes live among the administrator's programs on some systems.
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(name, path=f"{path}:/usr/local/sbin:/usr/sbin:/sbin")


def _failure(log: Path) -> str:
    """Give the last error in the program's log, or nothing."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    errors = [entry["msg"] for entry in map(_entry, lines) if entry.get("level") == "error"]
    return str(errors[-1]) if errors else ""


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) and "msg" in entry else {}


def _kernel_kills() -> int:
    """Count the processes that the kernel has killed for want of memory since the start."""
    try:
        with open("/proc/vmstat", "rb") as file:
            found = file.read().partition(b"\noom_kill ")[2]
    except OSError:
        return 0
    return int(found.split(maxsplit=1)[0]) if found else 0
