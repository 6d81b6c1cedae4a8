"""What is left of a step, whoever builds and with each runtime: see `engines/test_ends.py`.

How long it took is a property of each test (`--junit-xml`), and printed; nothing is gated on it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.integration.engines.endings import Project, Seen
from tests.integration.rootless.conftest import make_builder

from torana.gateway.testing.daemons import RunningDaemon, start_daemon

pytestmark = pytest.mark.needs(
    "root", "runc", "crun", "bwrap", "busybox", "newuidmap", "setpriv", "useradd"
)

RUNTIMES = ("crun", "runc", "bubblewrap")
EVERY = [(who, runtime) for who in ("root", "ranges", "single") for runtime in RUNTIMES]
CONTAINER = ("container", "crun")


@pytest.mark.parametrize(("who", "runtime"), [*EVERY, CONTAINER])
def test_nothing_is_left(
    request: pytest.FixtureRequest,
    folder: Path,
    who: str,
    runtime: str,
    record_property: Callable[[str, object], None],
) -> None:
    builder = make_builder(request, who, folder)
    shared = folder / "project"
    shared.mkdir()
    owner = os.stat(builder.context).st_uid
    project = Project(shared, prefix=builder.prefix, owner=owner)
    temporary = tempfile.mkdtemp(prefix="tnd-", dir=folder)
    os.chown(temporary, owner, owner)

    def end(what: str, go: Callable[[], object], seen: Seen, *, at_next_start: bool) -> None:
        assert any(name.startswith("net:") for name in seen.namespaces)
        began = time.monotonic()
        go()
        seen.processes_end()
        if not at_next_start:
            seen.groups_end()
        took_s = time.monotonic() - began
        record_property(f"{who} {runtime} {what}", f"{took_s:.2f} s")
        print(f"{who} {runtime} {what}: {took_s:.2f} s")

    for number in (signal.SIGINT, signal.SIGTERM):
        process = project.start(runtime=runtime)
        seen = Seen(project.traces)
        end(number.name, partial(_signal, process, number), seen, at_next_start=False)
        assert process.returncode == 130, project.log.read_text()
        seen.all_ends()

    process = project.start(runtime=runtime)
    seen = Seen(project.traces)
    end("SIGKILL", process.kill, seen, at_next_start=True)
    process.wait(60)
    assert project.traces.mounts() == set()
    assert list(project.temporary.iterdir()) == []
    project.build(runtime=runtime)
    seen.rest_ends()

    daemon = _start(project, Path(temporary), runtime)
    try:
        process = project.start(host=daemon.address)
        seen = Seen(project.traces, survivor=daemon.process.pid)
        end("death of a client", process.kill, seen, at_next_start=False)
        process.wait(60)
        process = project.start(host=daemon.address)
        seen = Seen(project.traces)
        end("SIGKILL of toranad", daemon.process.kill, seen, at_next_start=True)
        assert process.wait(60) == 1
        assert project.traces.mounts() == set()
    finally:
        daemon.stop(signal.SIGKILL)
    again = _start(project, Path(temporary), runtime)
    try:
        seen.rest_ends()  # at its start, before any build
    finally:
        assert again.stop() == 0


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)
    process.wait(60)


def _start(project: Project, folder: Path, runtime: str) -> RunningDaemon:
    """Start a daemon on the project's root, as its builder."""
    ready = folder / "d.ready"
    ready.unlink(missing_ok=True)
    flags = ["--oci-worker-net=none", f"--oci-worker-binary={runtime}"]
    return start_daemon(
        folder,
        ["--root", str(project.traces.root), *flags],
        prefix=project.prefix,
        environment=project.environment(),
    )
