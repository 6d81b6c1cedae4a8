"""Machines that share nothing but caches."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.caches.sites import Machine, make_context
from tests.integration.registry.servers import FaultyRegistry, RealRegistry

from torana.gateway.testing.daemons import RunningDaemon, start_daemon


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return make_context(tmp_path / "context", Path("/bin/busybox"))


@pytest.fixture
def new_machine(tmp_path: Path, context: Path) -> Callable[[], Machine]:
    """Makes machines without anything on them, which build in their own process."""

    def make() -> Machine:
        folder = Path(tempfile.mkdtemp(prefix="machine", dir=tmp_path))
        return Machine(folder, context)

    return make


@pytest.fixture
def new_daemon(tmp_path: Path, context: Path) -> Iterator[Callable[[], Machine]]:
    """Makes machines that build on a daemon of their own."""
    started: list[tuple[RunningDaemon, str]] = []

    def make() -> Machine:
        # Not pytest's folder: addresses of sockets are short.
        short = tempfile.mkdtemp(prefix="tnd-")
        daemon = start_daemon(Path(short))
        started.append((daemon, short))
        folder = Path(tempfile.mkdtemp(prefix="client", dir=tmp_path))
        return Machine(folder, context, daemon.address)

    yield make
    for daemon, short in started:
        daemon.stop()
        shutil.rmtree(short, ignore_errors=True)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A real registry; tests that use it need `docker-registry`."""
    started = RealRegistry(tmp_path_factory.mktemp("registry"))
    started.start()
    yield started
    started.stop()


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    started = FaultyRegistry()
    yield started
    started.close()
