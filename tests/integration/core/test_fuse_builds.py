"""Merges and diffs on fuse-overlayfs: the layers are those of the kernel's overlays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.ops.test_merged_builds import (
    layers,
    made,
    private_mounts,
    test_a_diff_with_deletions_is_one_layer,
    test_a_merge_has_the_layers_of_its_inputs,
    test_a_merge_is_found_again,
)

from torana.core.llb import state as llb
from torana.core.worker import Worker
from torana.gateway.engines.embedded import EmbeddedEngine
from torana.plugins.manager import PluginManager

__all__ = [
    "private_mounts",
    "test_a_diff_with_deletions_is_one_layer",
    "test_a_merge_has_the_layers_of_its_inputs",
    "test_a_merge_is_found_again",
]

pytestmark = [
    pytest.mark.needs("root", "fuse-overlayfs"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="the kernel has no FUSE"),
]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    worker = Worker(tmp_path / "root", snapshotter=PluginManager().snapshotter("fuse-overlayfs"))
    yield EmbeddedEngine(worker, PluginManager())
    worker.close()


async def test_layers_are_those_of_overlays(engine: EmbeddedEngine, tmp_path: Path) -> None:
    lower = made("b", made("a").file(llb.mkdir("/d/inner", make_parents=True, mode=0o755)))
    upper = made("a", lower.file(llb.rm("/d")).file(llb.mkfile("/d", b"file", mode=0o4755)))
    other = (
        llb.scratch().file(llb.mkdir("/d", mode=0o700)).file(llb.mkfile("/d/x", b"", mode=0o600))
    )
    merged = llb.merge([other, llb.diff(lower, upper)])
    states = (upper, llb.diff(other, upper), merged, made("c", merged), llb.diff(merged, other))
    worker = Worker(tmp_path / "overlays", snapshotter="overlay")
    overlays = EmbeddedEngine(worker, PluginManager())
    try:
        for state in states:
            expected = await layers(overlays, state, tmp_path, is_dated=True)
            assert await layers(engine, state, tmp_path, is_dated=True) == expected
    finally:
        worker.close()
