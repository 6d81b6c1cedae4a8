from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.snapshots.native import NativeSnapshotter
from torana.core.snapshots.snapshotter import Snapshotter
from torana.core.testing.snapshotters import SnapshotterSuite
from torana.core.testing.stacks import StackSuite


class TestNative(SnapshotterSuite, StackSuite):
    builtins = ("native",)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "snapshots"

    @pytest.fixture
    def snapshotter(self, folder: Path) -> Snapshotter:
        return NativeSnapshotter(folder)
