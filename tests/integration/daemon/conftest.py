"""A real `toranad` on a private root and socket."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc.aio
import pytest

from torana.gateway.protocol import limits
from torana.gateway.testing.daemons import RunningDaemon, start_daemon


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path."""
    path = tempfile.mkdtemp(prefix="tnd-")
    yield Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., RunningDaemon]]:
    """Start daemons on one root; those that still run are stopped at the end."""
    started: list[RunningDaemon] = []
    names = map(str, itertools.count())

    def start_one(*arguments: str, **environment: str) -> RunningDaemon:
        name = next(names)
        started.append(start_daemon(folder, arguments, name=name, environment=environment))
        return started[-1]

    yield start_one
    for daemon in started:
        daemon.stop()


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    """One daemon for all tests of a module."""
    with tempfile.TemporaryDirectory(prefix="tnd-") as path:
        daemon = start_daemon(Path(path))
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
async def channel(daemon: RunningDaemon) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(daemon.target, options=limits.CHANNEL) as channel:
        yield channel
