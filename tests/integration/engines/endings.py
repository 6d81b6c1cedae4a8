"""`Project`, `Seen`: a build whose step runs until it is killed, and what is left of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex

from tests.integration.engines.traces import Traces, wait_for

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/sh
RUN trap '' TERM INT HUP; (while :; do sleep 1; done) & \\
    echo step-is-up; while :; do sleep 1; done; : {mark}
"""


class Project:
    """A context whose one step runs until it is killed.

    `prefix` is a command that runs builds as another user, `owner`, whose the folder is then.
    """

    def __init__(self, folder: Path, *, prefix: Sequence[str] = (), owner: int = 0) -> None:
        self.folder = folder
        self.prefix = prefix
        self.context = folder / "context"
        self.context.mkdir()
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        shutil.copy("/bin/busybox", self.context / "busybox")
        self.mark = f"mark-{token_hex(6)}"
        (self.context / "Dockerfile").write_text(DOCKERFILE.format(mark=self.mark))
        (self.context / "Other").write_text("FROM scratch\nCOPY busybox /bin/sh\nRUN echo well\n")
        self.traces = Traces(folder / "root", self.mark)
        self.log = folder / "build.log"
        for path in (folder, self.context, self.temporary, *self.context.iterdir()):
            os.chown(path, owner, owner)

    def start(self, *arguments: str, runtime: str = "", host: str = "") -> subprocess.Popen[bytes]:
        """Start a build and wait until its step runs."""
        with open(self.log, "wb") as log:
            process = subprocess.Popen(
                self._line(*arguments), cwd=self.context, stderr=log, env=self._env(runtime, host)
            )

        def is_up() -> bool:
            assert process.poll() is None, self.log.read_text()
            text = self.log.read_text()
            return any(line.endswith(" step-is-up") for line in text.splitlines())

        wait_for(is_up, "the step to run")
        return process

    def build(self, *arguments: str, runtime: str = "", host: str = "") -> None:
        """Build something else to its end."""
        done = subprocess.run(
            self._line("-f", "Other", *arguments),
            cwd=self.context,
            env=self._env(runtime, host),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    def _line(self, *arguments: str) -> list[str]:
        python = [*self.prefix, sys.executable, "-B", "-m", "torana"]
        return [*python, "build", "--progress=plain", *arguments, "."]

    def environment(self) -> dict[str, str]:
        """Give what engines of this project run with; the machine's settings are not theirs."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
        return {
            **kept,
            "HOME": str(self.folder),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "TMPDIR": str(self.temporary),
            "TORANA_NO_MEMO": "1",
            "TORANA_NETWORK": "none",
        }

    def _env(self, runtime: str, host: str) -> dict[str, str]:
        made = {"TORANA_ROOT": str(self.traces.root)}
        if runtime:
            made["TORANA_RUNTIME"] = runtime
        if host:
            made |= {"BUILDKIT_HOST": host, "TORANA_ROOT": str(self.folder / "client")}
        return {**self.environment(), **made}


class Seen:
    """What a running step has, to be looked for when it has ended.

    It shares namespaces with its engine, where that is an ordinary user's: those of `survivor`, a
    process that is not to end, are not looked for.
    """

    def __init__(self, traces: Traces, *, survivor: int | None = None) -> None:
        self.traces = traces
        self.namespaces = traces.namespaces() - traces.namespaces_of(survivor)
        self.tokens = traces.tokens()
        assert traces.processes(), "the step runs"
        assert traces.mounts(), "it has mounts"
        assert len(self.namespaces) >= 3, self.namespaces
        assert self.tokens

    def processes_end(self) -> None:
        """Wait until no process, mount or namespace is left."""
        wait_for(lambda: not self.traces.processes(), "processes to end")
        wait_for(lambda: not self.traces.alive(self.namespaces), "namespaces to end")
        assert self.traces.processes() == []

    def groups_end(self) -> None:
        """Wait until no cgroup is left."""
        wait_for(lambda: not self.traces.groups(self.tokens), "cgroups to go")

    def rest_ends(self) -> None:
        """Wait until what outlives a killed engine is gone: its cgroups and its folder."""
        self.groups_end()
        assert self.traces.folders() == []
        assert self.traces.mounts() == set()

    def all_ends(self, *, keeps_folders: bool = False) -> None:
        """Wait until nothing is left, but for the folder of an engine that still runs."""
        assert self.traces.engines() == [], "no engine, no collector of garbage"
        self.processes_end()
        if keeps_folders:
            self.groups_end()
        else:
            self.rest_ends()
