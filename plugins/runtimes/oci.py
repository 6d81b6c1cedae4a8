"""`OCIRuntime`: containers by a program with the command line of runc."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from torana.core.llb.ops import LinuxResources
from torana.core.ops.runtime import (
    ContainerSpec,
    ExitStatus,
    Output,
    ProcessSpec,
    RunningContainer,
    RuntimeFailedError,
    Streams,
)
from torana.core.pool import run_blocking
from torana.plugins.runtimes import cgroups
from torana.plugins.runtimes.containers import ProgramContainer
from torana.plugins.runtimes.launcher import Launch, Surroundings, run
from torana.plugins.runtimes.outcome import LOG, failure, kernel_kills, of_program
from torana.plugins.runtimes.probe import probe
from torana.plugins.runtimes.spec import HostTraits, cgroup_path, oci_spec, process_spec

_KILLED: Final = 137


class OCIRuntime:
    """Writes the bundle, runs the program once, reads its log for what went wrong.

    Subclasses say what is special: `traits`, `surroundings` and `flags`.
    """

    name = "oci"
    log_format = "json"

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

    def keeps_limits(self) -> bool:
        """Say whether limits of steps are kept, by the program or by what is around it."""
        return not self.traits().is_rootless

    def flags(self) -> Sequence[str]:
        """Give options that stand before the command."""
        return ()

    async def probe(self, directory: Path) -> str | None:
        if self._program is None:
            return "not on PATH"
        return await probe(self, directory)

    async def run(self, spec: ContainerSpec, output: Output) -> ExitStatus:
        is_asked_for = spec.cgroup_parent or spec.resources not in (None, LinuxResources())
        if is_asked_for and not self.keeps_limits():
            output(2, f"{self.name} manages no cgroups here: limits are not kept\n".encode())
        command, kills = self.first(spec), kernel_kills()
        try:
            code = await run(command, output, owner=spec.user.uid)
        except asyncio.CancelledError:
            await self.clean_up(spec)
            raise
        return await self.status(spec, code, spec.directory / LOG, kills)

    async def start(self, spec: ContainerSpec, streams: Streams) -> RunningContainer:
        container = ProgramContainer(self, spec)
        await container.start(streams)
        return container

    def first(self, spec: ContainerSpec, pid_file: Path | None = None) -> Launch:
        """Write the bundle and give what starts the container; the program forwards signals."""
        if self.traits().manages_cgroups:
            _sweep_once()
        document = json.dumps(oci_spec(spec, self.traits()))
        (spec.directory / "config.json").write_text(document, encoding="utf-8")
        flags = [] if pid_file is None else [f"--pid-file={pid_file}"]
        return Launch(
            (*self._program_line(spec, LOG), "run", *flags, f"--bundle={spec.directory}", spec.id),
            self.surroundings(spec),
        )

    def further(
        self, spec: ContainerSpec, process: ProcessSpec, pid_file: Path, log: Path
    ) -> Launch:
        """Give what starts a process beside the first; it says in `log` why it did not."""
        document = log.with_suffix(".process")
        text = json.dumps(process_spec(process, self.traits()))
        document.write_text(text, encoding="utf-8")
        flags = f"--pid-file={pid_file}", f"--process={document}"
        line = self._program_line(spec, log.name)
        return Launch((*line, "exec", *flags, spec.id), self.surroundings(spec))

    def _program_line(self, spec: ContainerSpec, log: str) -> list[str]:
        """Give the program with all options that stand before a command."""
        if self._program is None:
            raise RuntimeFailedError(f"`{self.name}` is not on PATH")
        return [
            self._program,
            f"--root={spec.directory}/state",
            f"--log={spec.directory / log}",
            f"--log-format={self.log_format}",
            *self.flags(),
        ]

    async def status(
        self, spec: ContainerSpec, code: int, log: Path, kills: int, *, command: str = "run"
    ) -> ExitStatus:
        """Read the end of the program: `kills` is what the kernel had killed before it.

        Raises:
            RuntimeFailedError: it was the runtime that failed.
        """
        if code == 0:
            return ExitStatus(0)
        said = failure(log)
        if said:
            if command == "run":
                said = of_program(said, spec.args[0])
            prefix = f"{self.name} {command} failed: "
            raise RuntimeFailedError(prefix + said.removeprefix(prefix))
        if code == _KILLED and (spec.directory / "state" / spec.id).exists() and command == "run":
            # The program itself was killed, by the kernel or by hand, and left its cgroups.
            await self.clean_up(spec)
        return ExitStatus(code, is_out_of_memory=code == _KILLED and kernel_kills() > kills)

    async def clean_up(self, spec: ContainerSpec) -> None:
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
