"""Ctrl-C, signals, clients that go and engines that are killed: no step is left.

Processes, mounts, cgroups and namespaces are counted while a step runs, and looked for afterwards.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.engines.endings import Project, Seen
from tests.integration.engines.traces import wait_for

from torana.gateway.testing.daemons import RunningDaemon, start_daemon

pytestmark = pytest.mark.needs("root", "busybox")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


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
    assert list(project.temporary.iterdir()) == []
    project.build(runtime=runtime)
    seen.rest_ends()


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
            seen.rest_ends()  # at its start, before any build
            project.build(host=again.address)
            assert "dropped at start: containers of a dead process" in again.log.read_text()
        finally:
            assert again.stop() == 0
