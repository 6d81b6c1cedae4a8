"""Steps on the real cache manager and real snapshots."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from torana.core.cache.manager import CacheManager
from torana.core.cache.ref import ImmutableRef
from torana.core.database import Database
from torana.core.llb.ops import CacheOpt, CacheSharing, ExecOp, Meta, Mount, MountType
from torana.core.oci.platform import Platform
from torana.core.ops.exec.caches import CacheMounts
from torana.core.ops.exec.errors import ExecError
from torana.core.ops.exec.folder import ExecutorFolder
from torana.core.ops.exec.op import ExecVertexOp
from torana.core.ops.exec.services import StepServices
from torana.core.snapshots.choose import choose
from torana.core.snapshots.copytree import copy_tree
from torana.core.snapshots.namespace import is_mapped_user
from torana.plugins.runtimes.crun import CrunRuntime

pytestmark = pytest.mark.needs("root", "crun", "busybox")


class Silent:
    def log(self, stream: int, data: bytes) -> None: ...


class Store:
    def __init__(self, root: Path, snapshotter: str, folder: ExecutorFolder) -> None:
        self.database = Database(root / "torana.db")
        choice = choose(root, wanted=snapshotter, is_mapped_user=is_mapped_user())
        self.snapshots = choice.snapshotter
        self.refs = CacheManager(root, self.database, self.snapshots)
        self.services = StepServices(
            refs=self.refs, runtime=CrunRuntime(), folder=folder, caches=CacheMounts(self.refs)
        )

    async def base(self, tree: Path) -> ImmutableRef:
        new = await self.refs.new_mutable(None)
        with new.mount() as path:
            copy_tree(os.fsencode(tree), os.fsencode(path))
        return await new.commit()

    async def run(self, script: str, *inputs: ImmutableRef, mounts: Any = ()) -> Any:
        op = ExecVertexOp(
            ExecOp(
                meta=Meta(args=("sh", "-ec", script), env=("PATH=/bin",), cwd="/"),
                mounts=(Mount(input=0, dest="/", output=0), *mounts),
            ),
            platform=Platform(os="linux", architecture="amd64"),
            input_count=len(inputs),
            services=self.services,
            step_log=Silent(),
        )
        return await op.exec(cast("Any", inputs))

    def changes(self, ref: Any, below: Any) -> list[tuple[str, bytes]]:
        found = self.snapshots.changes(ref.snapshot_name, below.snapshot_name)
        return [(change.kind.value, change.path) for change in found]


@pytest.fixture(params=["overlay", "native"])
def store(
    tmp_path: Path, folder: ExecutorFolder, request: pytest.FixtureRequest
) -> Iterator[Store]:
    made = Store(tmp_path / "root", request.param, folder)
    yield made
    made.refs.close()
    made.database.close()


async def test_layer_of_a_step(store: Store, busybox_tree: Path) -> None:
    base = await store.base(busybox_tree)
    cache = Mount(
        input=-1, output=-1, dest="/c", mount_type=MountType.CACHE, cache_opt=CacheOpt("c")
    )
    (first,) = await store.run("echo 1 > /new; echo 2 > /c/f", base, mounts=(cache,))
    # No mount points, no times of their parents; the runtime's own folders stay, as in BuildKit.
    made = store.changes(first, base)
    by_runtime = {("add", b"dev"), ("add", b"proc"), ("add", b"sys")}  # if the tree lacked them
    assert [change for change in made if change not in by_runtime] == [("add", b"new")]
    bind = Mount(input=1, output=-1, dest="/m", selector="new", readonly=True)
    (second,) = await store.run("cat /m /c/f > /both; rm /new", first, first, mounts=(cache, bind))
    assert store.changes(second, first) == [("add", b"both"), ("delete", b"new")]
    with second.mount() as path:
        assert (path / "both").read_text() == "1\n2\n"
    assert second.parent is not None
    assert second.description.startswith("mount / from exec sh -ec cat /m")


async def test_failures_leave_nothing(store: Store, busybox_tree: Path) -> None:
    base = await store.base(busybox_tree)
    before = set(store.snapshots.names())
    with pytest.raises(ExecError):
        await store.run("touch /x; exit 1", base)
    task = asyncio.create_task(store.run("sleep 100", base))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(store.snapshots.names()) == before
    assert str(store.refs.root / "snapshots") not in Path("/proc/self/mounts").read_text()


async def test_locked_and_shared_caches(store: Store, busybox_tree: Path) -> None:
    base = await store.base(busybox_tree)
    for sharing in (CacheSharing.LOCKED, CacheSharing.SHARED):
        mount = Mount(
            input=-1,
            output=-1,
            dest="/c",
            mount_type=MountType.CACHE,
            cache_opt=CacheOpt(f"id{sharing}", sharing),
        )
        runs = [store.run("echo x >> /c/f", base, mounts=(mount,)) for _ in range(4)]
        await asyncio.gather(*runs)
        await store.run("test $(wc -l < /c/f) = 4", base, mounts=(mount,))
