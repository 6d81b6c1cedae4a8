"""What the next start drops after a process was killed, and what it leaves alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest
from tests.unit.core.cache.stores import Store

from torana.core.cache import records
from torana.core.cache.policy import GCPolicy
from torana.core.database import pack
from torana.core.errors import NotFoundError


def dropped(store: Store) -> list[str]:
    found = [str(finding) for finding in store.upkeep.reconcile()]
    assert store.upkeep.check(is_verified=True) == []
    return found


async def test_a_process_that_ended_well_leaves_nothing_to_do(
    open_store: Callable[[], Store],
) -> None:
    one = open_store()
    await one.commit(await one.commit())
    one.close()
    assert dropped(open_store()) == []


async def test_what_was_committed_survives_a_kill(open_store: Callable[[], Store]) -> None:
    one, two = open_store(), open_store()
    ref = await one.commit(await one.commit())
    one.die()
    assert dropped(two) == []
    with two.refs.find(ref.id).mount() as path:
        assert len(list(path.iterdir())) == 2


async def test_data_without_a_row_goes_unless_somebody_is_at_it(
    open_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, busy, judge = open_store(), open_store(), open_store()
    parent = await busy.commit()

    def fail(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    for store in (dead, busy):
        new = await store.refs.new_mutable(None)
        with monkeypatch.context() as patch:
            patch.setattr(records.RecordTable, "add", fail)
            with pytest.raises(KeyboardInterrupt):
                new._commit()  # type: ignore[attr-defined]  # in this thread
    dead.die()
    assert len(list(judge.snapshots.names())) == 3
    (line,) = dropped(judge)
    assert line.startswith("data without record: ")
    assert len(list(judge.snapshots.names())) == 2
    assert judge.refs.find(parent.id)


async def test_rows_without_data_go_with_their_children(open_store: Callable[[], Store]) -> None:
    dead, judge = open_store(), open_store()
    base = await dead.commit()
    child = await dead.commit(base)
    other = await dead.commit()
    dead.die()
    shutil.rmtree(judge.root / "snapshots" / base.id)
    assert sorted(dropped(judge)) == sorted(
        [f"record without data: {base.id}", f"record without its parent: {child.id}"]
    )
    with pytest.raises(NotFoundError):
        judge.refs.find(child.id)
    assert judge.refs.find(other.id)
    assert list(judge.snapshots.names()) == [other.id]


async def test_rows_that_were_not_synced_go_after_a_power_cut(
    open_store: Callable[[], Store],
) -> None:
    one, judge = open_store(), open_store()
    synced = await one.commit()
    one.refs.flush()
    lost = await one.commit(synced)
    blob = one.content.add(b"torn")
    value = pack({"digest": blob, "size": 4, "diff_id": blob})
    one.database.execute("INSERT INTO layers VALUES (?, 'x', ?)", (synced.id, value))
    one.close()
    path = judge.content.path(blob)
    path.chmod(0o644)
    path.write_bytes(b"to")
    judge.database.execute("UPDATE ref_records SET boot = 'before' WHERE boot IS NOT NULL")
    assert dropped(judge) == [
        f"record whose data was not synced: {lost.id}",
        f"damaged blob: {blob}",
    ]
    assert judge.refs.find(synced.id)
    assert judge.refs.records.layer_blobs() == []


async def test_half_made_things_go(open_store: Callable[[], Store]) -> None:
    dead, judge = open_store(), open_store()
    await dead.refs.new_mutable(None)
    writer = dead.content.writer()
    writer.write(b"half")
    writer._file.close()
    (dead.refs.views / "merged").mkdir()
    assert dead.refs._views is not None
    os.close(dead.refs._views[1])
    (judge.root / "cachemounts" / "new-x" / "fs").mkdir(parents=True)
    dead.die()
    assert len(dropped(judge)) == 1  # the blob; the others are not worth telling
    for folder in ("snapshots", "views", "cachemounts", "content/ingest"):
        assert [entry.name for entry in (judge.root / folder).iterdir()] in ([], ["trash"])


async def test_who_dies_while_reconciling_leaves_the_work_to_the_next(
    open_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, judge, next_one = open_store(), open_store(), open_store()
    base = await dead.commit()
    await dead.commit(base)
    dead.die()
    shutil.rmtree(judge.root / "snapshots" / base.id)

    def fail(id: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judge.refs, "remove_data", fail)
    with pytest.raises(KeyboardInterrupt):
        judge.upkeep.reconcile()
    assert len(dropped(next_one)) == 2  # the child's row is gone already, its data is not
    assert list(next_one.snapshots.names()) == []


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "disk full"])
async def test_a_pruning_that_ends_between_row_and_data(
    open_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch, is_killed: bool
) -> None:
    one = open_store()
    ref = await one.commit()
    await ref.release()
    one.close()
    pruner = open_store()

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(pruner.snapshots, "remove", fail)
        pruner.upkeep.prune([GCPolicy(is_all=True)])
    if is_killed:
        pruner.die()
    else:
        pruner.close()
    (line,) = dropped(open_store())
    assert line == f"data without record: {ref.id}"
