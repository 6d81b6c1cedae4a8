"""Refs over plain directories, a busybox tree, and steps that run in real containers."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from torana.core.cache.ref import ImmutableRef, MutableRef, RecordType, RefStore, Selector
from torana.core.llb.ops import ExecOp, LinuxResources, Meta, Mount
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform, host_platform
from torana.core.ops.exec.caches import CacheMounts
from torana.core.ops.exec.folder import ExecutorFolder
from torana.core.ops.exec.op import ExecVertexOp
from torana.core.ops.exec.services import StepServices
from torana.core.ops.runtime import Runtime
from torana.plugins.runtimes.bubblewrap import BubblewrapRuntime
from torana.plugins.runtimes.cgroups import can_limit
from torana.plugins.runtimes.crun import CrunRuntime
from torana.plugins.runtimes.oci import OCIRuntime
from torana.plugins.runtimes.runc import RuncRuntime


class PlainRef:
    """A committed or mutable tree that is a directory of its own."""

    def __init__(self, store: PlainRefs, path: Path, description: str = "") -> None:
        self.store = store
        self.path = path
        self.description = description
        self.on_release: Callable[[], None] = lambda: None
        store.live.add(self)

    @property
    def id(self) -> str:
        return self.path.name

    def clone(self) -> PlainRef:
        return PlainRef(self.store, self.path, self.description)

    async def ready(self) -> None:
        """It is here."""

    async def release(self) -> None:
        self.store.live.discard(self)
        self.on_release()

    @contextmanager
    def mount(self) -> Iterator[Path]:
        self.store.mounted.append(self.path)
        try:
            yield self.path
        finally:
            self.store.mounted.remove(self.path)

    async def content_digest(self, selectors: Sequence[Selector]) -> Digest:
        return Digest.of_text(repr(selectors))

    async def snapshot(self) -> ImmutableRef:
        return cast("ImmutableRef", self.clone())

    async def commit(self) -> ImmutableRef:
        assert self.path not in self.store.mounted, "committed while mounted"
        self.store.live.discard(self)
        return cast("ImmutableRef", PlainRef(self.store, self.path, self.description))


class PlainRefs:
    """A `RefStore` for tests; knows which handles are live, and what is mounted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live: set[PlainRef] = set()
        self.mounted: list[Path] = []
        self.retained_keys: dict[str, str] = {}  # key: description
        self._busy: dict[str, bool] = {}  # key: whether it is shared
        self._users: Counter[str] = Counter()
        self._count = itertools.count()

    def tree(self, source: Path | None = None) -> PlainRef:
        path = self.root / f"tree-{next(self._count)}"
        if source is None:
            path.mkdir(0o755)
        else:
            subprocess.run(["cp", "-a", str(source), str(path)], check=True)
        return PlainRef(self, path)

    async def new_mutable(
        self,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        record_type: RecordType = RecordType.REGULAR,
    ) -> MutableRef:
        made = self.tree(None if parent is None else cast("PlainRef", parent).path)
        made.description = description
        return cast("MutableRef", made)

    async def get(self, ref_id: str) -> ImmutableRef:
        raise NotImplementedError

    async def retained(
        self,
        key: str,
        *,
        description: str,
        base: ImmutableRef | None,
        wait: bool,
        is_shared: bool = False,
    ) -> MutableRef | None:
        while key in self._busy and not (is_shared and self._busy[key]):
            if not wait:
                return None
            await asyncio.sleep(0.01)
        self._busy[key] = is_shared
        self._users[key] += 1
        path = self.root / f"cache-{key.replace('/', '_')}"
        if not path.exists():
            self.retained_keys[key] = description
            source = None if base is None else cast("PlainRef", base).path
            if source is None:
                path.mkdir()
            else:
                subprocess.run(["cp", "-a", str(source), str(path)], check=True)
        ref = PlainRef(self, path)
        ref.on_release = lambda: self._release(key)
        return cast("MutableRef", ref)

    def _release(self, key: str) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._busy[key]


@dataclass
class Log:
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    on_data: Callable[[], None] = lambda: None

    def log(self, stream: int, data: bytes) -> None:
        self.chunks.append((stream, data))
        self.on_data()

    def text(self, stream: int | None = None) -> str:
        return self.raw(stream).decode()

    def raw(self, stream: int | None = None) -> bytes:
        return b"".join(data for number, data in self.chunks if stream in (None, number))


ROOT = Mount(input=0, dest="/", output=0)


@dataclass
class Steps:
    """Runs steps and gives their outputs."""

    services: StepServices
    refs: PlainRefs
    base: PlainRef
    log: Log = field(default_factory=Log)

    def op(
        self,
        script: str,
        *mounts: Mount,
        root: Mount = ROOT,
        args: tuple[str, ...] | None = None,
        inputs: int = 1,
        on_failure: Callable[..., Awaitable[None]] | None = None,
        resources: LinuxResources | None = None,
        meta: dict[str, Any] | None = None,
        log: Log | None = None,
        platform: Platform | None = None,
        **members: Any,
    ) -> ExecVertexOp:
        process = Meta(args=args or ("sh", "-ec", script), env=("PATH=/bin",), cwd="/")
        return ExecVertexOp(
            ExecOp(meta=replace(process, **(meta or {})), mounts=(root, *mounts), **members),
            platform=platform or host_platform(),
            input_count=inputs,
            services=self.services,
            step_log=log or self.log,
            on_failure=on_failure,
            resources=resources,
        )

    async def run(
        self, script: str, *mounts: Mount, trees: Sequence[PlainRef | None] = (), **options: Any
    ) -> list[PlainRef]:
        """Run a shell script on the base tree and `trees`, input 0 and following."""
        inputs = [self.base, *trees]
        op = self.op(script, *mounts, inputs=len(inputs), **options)
        return cast("list[PlainRef]", await op.exec(cast("Any", inputs)))


class RecordingFolder(ExecutorFolder):
    """Knows which containers there were; other processes have theirs at the same time."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.ids: set[str] = set()

    @contextmanager
    def container(self) -> Iterator[tuple[str, Path]]:
        with super().container() as (id, directory):
            self.ids.add(id)
            yield id, directory


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ExecutorFolder]:
    made = RecordingFolder(tmp_path / "root")
    yield made
    made.close()


RUNTIMES = {kind.name: kind for kind in (CrunRuntime, RuncRuntime, BubblewrapRuntime)}


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Every runtime; where one is known to differ, the test is expected to fail."""
    for mark in request.node.iter_markers("differs"):
        if request.param in mark.kwargs:
            request.applymarker(pytest.mark.xfail(reason=mark.kwargs[request.param], strict=True))
    return cast("Runtime", RUNTIMES[request.param]())


@pytest.fixture
def limits(request: pytest.FixtureRequest, runtime: Runtime) -> None:
    """The test needs limits, which are not kept by everybody: then it is expected to fail."""
    if isinstance(runtime, BubblewrapRuntime):
        keeps = can_limit()
    else:
        keeps = cast("OCIRuntime", runtime).keeps_limits()
    if not keeps:
        mark = pytest.mark.xfail(reason=f"{runtime.name} makes no cgroups here", strict=True)
        request.applymarker(mark)


@pytest.fixture
async def steps(
    tmp_path: Path, busybox_tree: Path, folder: ExecutorFolder, runtime: Runtime
) -> AsyncIterator[Steps]:
    trees = tmp_path / "trees"
    trees.mkdir()
    refs = PlainRefs(trees)
    store = cast("RefStore", refs)
    services = StepServices(refs=store, runtime=runtime, folder=folder, caches=CacheMounts(store))
    yield Steps(services, refs, refs.tree(busybox_tree))
    assert refs.mounted == []
