"""A worker of its own, and the client of a frontend on it, in this process."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from torana.core.llb import local
from torana.core.solver.progress import ProgressEvent
from torana.core.worker import Worker
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.client.client import Client, Reference, SolveRequest
from torana.gateway.engines.jobs import BuildParts, open_job
from torana.gateway.engines.runtime import chosen_runtime
from torana.gateway.testing.clients import OPTIONS, given_input
from torana.plugins.manager import PluginManager

SESSION = "session-of-the-test"


class Events:
    """Progress, as it came."""

    def __init__(self) -> None:
        self.all: list[ProgressEvent] = []

    def emit(self, event: ProgressEvent) -> None:
        self.all.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.all if isinstance(event, kind)]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    made = Worker(tmp_path / "root")
    yield made
    made.close()


@pytest.fixture
def plugins() -> PluginManager:
    return PluginManager()


@pytest.fixture(params=["crun", "runc", "bubblewrap"])
def runtime_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def inprocess(
    worker: Worker,
    plugins: PluginManager,
    tmp_path: Path,
    busybox_tree: Path,
    events: Events,
    runtime_name: str,
) -> AsyncIterator[InProcessClient]:
    program = {"bubblewrap": "bwrap"}.get(runtime_name, runtime_name)
    if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip(f"needs {runtime_name}")
    runtime = chosen_runtime(worker.root, plugins, wanted=runtime_name)
    parts = BuildParts(
        session_id=SESSION,
        local=worker.local_source({"busybox": busybox_tree}, SESSION),
        find_source=plugins.source,
        find_frontend=plugins.frontend,
        runtime=runtime,
        options=OPTIONS,
        inputs={"given": given_input()},
        keeps_failures=True,
    )
    async with open_job(worker, parts, events) as (_, client):
        yield client


async def busybox_of(client: Client) -> Reference:
    """Give the reference to the busybox tree, through any client of the worker."""
    definition = local("busybox", session_id=SESSION).marshal()
    result = await client.solve(SolveRequest(definition=definition))
    assert result.ref is not None
    return result.ref
