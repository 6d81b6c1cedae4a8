"""A small store of refs over the native snapshotter, which counts what is still held."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from torana.core.cache.ref import ImmutableRef, MutableRef, RecordType, Selector
from torana.core.oci.digest import Digest
from torana.core.snapshots.native import NativeSnapshotter
from torana.core.snapshots.snapshotter import LayerOf


class Refs:
    """A `RefStore`; `held` has the handles that nobody has released yet."""

    def __init__(self, root: Path) -> None:
        self.snapshots = NativeSnapshotter(root)
        self.numbers = itertools.count(1)
        self.held: set[object] = set()
        self.parents: dict[str, str | None] = {}
        self.descriptions: dict[str, str] = {}

    async def new_mutable(
        self,
        parent: ImmutableRef | None,
        *,
        description: str = "",
        record_type: RecordType = RecordType.REGULAR,
    ) -> MutableRef:
        name = f"snap{next(self.numbers)}"
        self.parents[name] = None if parent is None else parent.snapshot_name
        self.descriptions[name] = description
        self.snapshots.prepare("m" + name, self.parents[name])
        return Writable(self, name)

    async def stack(self, layers: Sequence[LayerOf], *, description: str = "") -> ImmutableRef:
        name = f"snap{next(self.numbers)}"
        self.parents[name] = None
        self.descriptions[name] = description
        self.snapshots.stack(name, layers)
        return Committed(self, name)

    async def get(self, ref_id: str) -> ImmutableRef:
        return Committed(self, ref_id)

    async def retained(
        self, key: str, *, description: str, base: ImmutableRef | None, wait: bool
    ) -> MutableRef | None:
        raise NotImplementedError

    async def tree(self, fill: Callable[[Path], None], on: ImmutableRef | None = None) -> Committed:
        """Make a ref whose content `fill` writes."""
        mutable = await self.new_mutable(on)
        with mutable.mount() as folder:
            fill(folder)
        made = await mutable.commit()
        assert isinstance(made, Committed)
        return made


class Writable:
    def __init__(self, refs: Refs, name: str) -> None:
        self.refs = refs
        self.id = self.snapshot_name = name
        refs.held.add(self)

    def mount(self) -> AbstractContextManager[Path]:
        return self.refs.snapshots.mount("m" + self.id, readonly=False)

    async def commit(self) -> ImmutableRef:
        self.refs.snapshots.commit("m" + self.id, self.id)
        self.refs.held.discard(self)
        return Committed(self.refs, self.id)

    async def release(self) -> None:
        self.refs.held.discard(self)
        self.refs.snapshots.remove("m" + self.id)


class Committed:
    created = 0.0

    def __init__(self, refs: Refs, name: str) -> None:
        self.refs = refs
        self.id = self.snapshot_name = name
        refs.held.add(self)

    @property
    def layers(self) -> tuple[LayerOf, ...]:
        return self.refs.snapshots.layers(self.id)

    @property
    def description(self) -> str:
        return self.refs.descriptions[self.id]

    @property
    def parent(self) -> ImmutableRef | None:
        name = self.refs.parents[self.id]
        if name is None:
            return None
        ref = Committed(self.refs, name)
        self.refs.held.discard(ref)  # borrowed
        return ref

    def clone(self) -> Committed:
        return Committed(self.refs, self.id)

    async def release(self) -> None:
        self.refs.held.discard(self)

    async def ready(self) -> None: ...

    def make(self) -> None: ...

    @contextmanager
    def mount(self) -> Iterator[Path]:
        with self.refs.snapshots.mount(self.id, readonly=True) as folder:
            yield folder

    async def content_digest(self, selectors: Sequence[Selector]) -> Digest:
        return Digest.of_text(f"{self.id} {selectors}")

    async def snapshot(self) -> ImmutableRef:
        return self.clone()


@pytest.fixture
def refs(tmp_path: Path) -> Refs:
    return Refs(tmp_path / "snapshots")
