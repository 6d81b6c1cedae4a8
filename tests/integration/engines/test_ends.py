"""Ctrl-C, signals, clients that go and engines that are killed: no step is left.

Processes, mounts, cgroups and namespaces are counted while a step runs, and looked for afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest
from tests.integration.engines.traces import Traces, wait_for

from torana.gateway.testing.daemons import RunningDaemon, start_daemon

pytestmark = pytest.mark.needs("root", "busybox")

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/sh
RUN trap '' TERM INT HUP; (while :; do sleep 1; done) & \\
    echo step-is-up; while :; do sleep 1; done; : {mark}
"""


class Project:
    """A context whose one step runs until it is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = folder / "context"
        self.context.mkdir()
        shutil.copy("/bin/busybox", self.context / "busybox")
        self.mark = f"mark-{token_hex(6)}"
        (self.context / "Dockerfile").write_text(DOCKERFILE.format(mark=self.mark))
        (self.context / "Other").write_text("FROM scratch\nCOPY busybox /bin/sh\nRUN echo well\n")
        self.traces = Traces(folder / "root", self.mark)
        self.log = folder / "build.log"

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
        return [sys.executable, "-m", "torana", "build", "--progress=plain", *arguments, "."]

    def _env(self, runtime: str, host: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
        made = {"TORANA_ROOT": str(self.traces.root), "TORANA_NO_MEMO": "1"}
        if runtime:
            made["TORANA_RUNTIME"] = runtime
        if host:
            made |= {"BUILDKIT_HOST": host, "TORANA_ROOT": str(self.folder / "client")}
        return {**kept, **made}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class Seen:
    """What a running step has, to be looked for when it has ended."""

    def __init__(self, traces: Traces) -> None:
        self.traces = traces
        self.namespaces = traces.namespaces()
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

    def all_ends(self, *, keeps_folders: bool = False) -> None:
        """The same, and the cgroups, and (but for a daemon's) the folder of the engine."""
        self.processes_end()
        wait_for(lambda: not self.traces.groups(self.tokens), "cgroups to go")
        if not keeps_folders:
            assert self.traces.folders() == []
            assert self.traces.mounts() == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_an_embedded_build(project: Project, number: signal.Signals) -> None:
    process = project.start()
    seen = Seen(project.traces)
    process.send_signal(number)
    assert process.wait(60) == 130, project.log.read_text()
    seen.all_ends()
    assert "Traceback" not in project.log.read_text()


@pytest.mark.parametrize(
    "runtime",
    [
        pytest.param(name, marks=pytest.mark.needs(program))
        for name, program in (("crun", "crun"), ("runc", "runc"), ("bubblewrap", "bwrap"))
    ],
)
def test_killed_embedded_build(project: Project, runtime: str) -> None:
    """Processes and mounts die with it; what is on disks and in cgroups goes at the next start."""
    process = project.start(runtime=runtime)
    seen = Seen(project.traces)
    process.kill()
    process.wait(60)
    seen.processes_end()
    assert project.traces.mounts() == set()
    project.build(runtime=runtime)
    seen.all_ends()


@pytest.fixture
def daemon(project: Project) -> Iterator[RunningDaemon]:
    """A daemon on the project's root; its socket's address is short."""
    with tempfile.TemporaryDirectory(prefix="tnd-") as path:
        Path(path, "root").symlink_to(project.traces.root, target_is_directory=True)
        project.traces.root.mkdir()
        made = start_daemon(Path(path), ["--root", str(project.traces.root)])
        yield made
        made.stop(signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_client_of_a_daemon_goes(
    project: Project, daemon: RunningDaemon, number: signal.Signals
) -> None:
    process = project.start(host=daemon.address)
    seen = Seen(project.traces)
    process.send_signal(number)
    process.wait(60)
    seen.all_ends(keeps_folders=True)
    project.build(host=daemon.address)
    assert daemon.stop() == 0
    assert project.traces.folders() == []
    assert project.traces.mounts() == set()


def test_daemon_is_told_to_end(project: Project, daemon: RunningDaemon) -> None:
    """The first signal lets the build run, the second one ends it."""
    process = project.start(host=daemon.address)
    seen = Seen(project.traces)
    daemon.process.send_signal(signal.SIGTERM)
    wait_for(lambda: b"stopping server" in daemon.log.read_bytes(), "the daemon to hear it")
    assert project.traces.processes()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(60) == 0
    assert process.wait(60) == 1
    seen.all_ends()


def test_killed_daemon(project: Project, daemon: RunningDaemon) -> None:
    process = project.start(host=daemon.address)
    seen = Seen(project.traces)
    daemon.process.kill()
    daemon.process.wait(60)
    assert process.wait(60) == 1
    seen.processes_end()
    assert project.traces.mounts() == set()
    with tempfile.TemporaryDirectory(prefix="tnd-") as path:
        again = start_daemon(Path(path), ["--root", str(project.traces.root)])
        try:
            seen.all_ends()  # at its start, before any build
            project.build(host=again.address)
            assert "dropped at start: containers of a dead process" in again.log.read_text()
        finally:
            assert again.stop() == 0
