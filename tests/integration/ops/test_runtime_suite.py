"""The suite of runtimes, for those that come with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from torana.core.ops.runtime import Runtime
from torana.core.testing.runtimes import Containers, RuntimeSuite, containers
from torana.plugins.runtimes.bubblewrap import BubblewrapRuntime
from torana.plugins.runtimes.crun import CrunRuntime
from torana.plugins.runtimes.runc import RuncRuntime

__all__ = ["containers"]


@pytest.fixture
def rootfs(busybox_tree: Path, tmp_path: Path) -> Path:
    made = tmp_path / "rootfs"
    shutil.copytree(busybox_tree, made, symlinks=True)
    return made


@pytest.mark.needs("root", "crun")
class TestCrun(RuntimeSuite):
    builtins = ("crun",)

    @pytest.fixture
    def runtime(self) -> Runtime:
        return CrunRuntime()


@pytest.mark.needs("root", "runc")
class TestRunc(RuntimeSuite):
    builtins = ("runc",)

    @pytest.fixture
    def runtime(self) -> Runtime:
        return RuncRuntime()


@pytest.mark.needs("root", "bwrap")
class TestBubblewrap(RuntimeSuite):
    builtins = ("bubblewrap",)

    @pytest.fixture
    def runtime(self) -> Runtime:
        return BubblewrapRuntime()

    @pytest.mark.xfail(reason="bubblewrap always forbids new privileges", strict=True)
    async def test_set_user_id_programs_work(self, containers: Containers) -> None:
        await super().test_set_user_id_programs_work(containers)
