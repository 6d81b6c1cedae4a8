"""Merges and diffs as a user builds them: what is exported, and what is built again."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from torana.core.llb import state as llb
from torana.core.snapshots import namespace
from torana.core.solver.progress import ProgressEvent, VertexEvent
from torana.core.worker import Worker
from torana.gateway.engines.embedded import EmbeddedEngine
from torana.gateway.engines.engine import BuildRequest, ExportRequest
from torana.plugins.manager import PluginManager

pytestmark = pytest.mark.needs("root")


@pytest.fixture(autouse=True, scope="module")
def private_mounts() -> None:
    if os.geteuid() == 0:
        namespace.enter()


class Ran:
    """Names of the vertices that were run, not found."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def emit(self, event: ProgressEvent) -> None:
        if isinstance(event, VertexEvent) and event.completed and not event.cached:
            self.names.append(event.name)


@pytest.fixture(params=["overlay", "native"])
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[EmbeddedEngine]:
    worker = Worker(tmp_path / "root", snapshotter=request.param)
    yield EmbeddedEngine(worker, PluginManager())
    worker.close()


async def layers(
    engine: EmbeddedEngine, state: llb.State, folder: Path, *, is_dated: bool = False
) -> list[str]:
    """Build and export, with dates that are the same whenever; gives the digests of the layers."""
    dest = folder / "image.tar"
    dates = {"source-date-epoch": "1", "rewrite-timestamp": "true"} if is_dated else {}
    request = BuildRequest(
        definition=state.marshal(),
        exports=[ExportRequest(type="oci", dest=str(dest), attrs=dates)],
    )
    await engine.build(request, Ran())
    with tarfile.open(dest) as archive:

        def read(name: str) -> Any:
            file = archive.extractfile(name)
            assert file is not None
            return json.load(file)

        index = read("index.json")
        manifest = read("blobs/sha256/" + index["manifests"][0]["digest"].partition(":")[2])
    return [layer["digest"] for layer in manifest["layers"]]


async def files(engine: EmbeddedEngine, state: llb.State, folder: Path) -> list[str]:
    dest = folder / "out"
    request = BuildRequest(
        definition=state.marshal(), exports=[ExportRequest(type="local", dest=str(dest))]
    )
    await engine.build(request, Ran())
    return sorted(str(path.relative_to(dest)) for path in dest.rglob("*"))


def made(name: str, on: llb.State | None = None) -> llb.State:
    return (on or llb.scratch()).file(llb.mkfile(f"/{name}", name.encode(), mode=0o644))


async def test_a_merge_has_the_layers_of_its_inputs(engine: EmbeddedEngine, tmp_path: Path) -> None:
    a, b = made("a2", made("a1")), made("b")
    of_a, of_b = await layers(engine, a, tmp_path), await layers(engine, b, tmp_path)
    merged = llb.merge([a, b])
    assert await layers(engine, merged, tmp_path) == [*of_a, *of_b]
    assert await layers(engine, llb.diff(a, merged), tmp_path) == of_b
    assert await layers(engine, llb.merge([b, merged]), tmp_path) == [*of_b, *of_a, *of_b]
    child = made("c", merged)
    assert (await layers(engine, child, tmp_path))[:3] == [*of_a, *of_b]
    assert await files(engine, child, tmp_path) == ["a1", "a2", "b", "c"]


async def test_a_diff_with_deletions_is_one_layer(engine: EmbeddedEngine, tmp_path: Path) -> None:
    base = made("kept", made("gone"))
    upper = made("new", base.file(llb.rm("/gone")))
    other = made("gone", made("x"))
    change = llb.diff(base, upper)
    assert len(await layers(engine, change, tmp_path)) == 2  # the two layers of `upper`
    inner = llb.merge([change, made("y")])
    assert await files(engine, llb.merge([other, inner]), tmp_path) == ["new", "x", "y"]
    computed = llb.diff(other, upper)
    assert len(await layers(engine, computed, tmp_path)) == 1


async def test_a_merge_is_found_again(engine: EmbeddedEngine, tmp_path: Path) -> None:
    merged = made("c", llb.merge([made("a"), made("b")]))
    await layers(engine, merged, tmp_path)
    ran = Ran()
    await engine.build(BuildRequest(definition=merged.marshal()), ran)
    # Of what has no inputs, computing the key is shown, too.
    assert set(ran.names) <= {"mkfile /a", "mkfile /b"}
