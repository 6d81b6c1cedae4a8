"""Records of builds: kept, changed, removed, told of."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.gateway.daemon.history import EventType, History
from torana.gateway.daemon.record import (
    STATUS_LOG,
    Blob,
    BuildRecord,
    ResultInfo,
    Steps,
    from_stored,
    to_stored,
)

texts = st.text(string.ascii_letters + " é/", max_size=5)
blobs = st.builds(
    Blob,
    media_type=texts,
    digest=texts.map(Digest.of_text),
    size_bytes=st.integers(0, 2**40),
    annotations=st.dictionaries(texts, texts, max_size=2),
)
infos = st.builds(
    ResultInfo,
    results=st.dictionaries(st.integers(0, 5), blobs, max_size=2),
    attestations=st.lists(blobs, max_size=2).map(tuple),
)
records = st.builds(
    BuildRecord,
    ref=texts,
    created=st.floats(0, 2e9),
    frontend=texts,
    frontend_attrs=st.dictionaries(texts, texts, max_size=2),
    exporters=st.lists(st.tuples(texts, st.dictionaries(texts, texts, max_size=2)), max_size=2).map(
        tuple
    ),
    completed=st.none() | st.floats(0, 2e9),
    error=st.none() | st.tuples(st.integers(1, 16), texts),
    error_blob=st.none() | blobs,
    logs=st.none() | blobs,
    trace=st.none() | blobs,
    response=st.dictionaries(texts, texts, max_size=2),
    result=st.none() | infos,
    results=st.dictionaries(texts, infos, max_size=2),
    steps=st.builds(Steps, total=st.integers(0, 9), cached=st.integers(0, 9)),
    generation=st.integers(0, 9),
    is_pinned=st.booleans(),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records)
def test_what_is_stored_reads_as_it_was(record: BuildRecord) -> None:
    from torana.core.database import pack, unpack

    assert from_stored(unpack(pack(to_stored(record)))) == record


def finished(history: History, ref: str, completed: float, *, pinned: bool = False) -> BuildRecord:
    data = f"log of {ref}".encode()
    digest = history.content.add(data)
    record = BuildRecord(
        ref=ref,
        created=completed - 1,
        completed=completed,
        logs=Blob(media_type=STATUS_LOG, digest=digest, size_bytes=len(data)),
        is_pinned=pinned,
    )
    history.complete(record)
    return record


def test_records_survive_a_restart(tmp_path: Path) -> None:
    history = History(tmp_path)
    record = finished(history, "a", 100.0)
    history.close()
    again = History(tmp_path)
    assert again.records() == [record]
    assert record.logs is not None
    assert again.content.read(record.logs.digest) == b"log of a"
    assert again.dropped == []


def test_a_restart_removes_what_no_record_names(tmp_path: Path) -> None:
    history = History(tmp_path)
    orphan = history.content.add(b"log of a build that was killed")
    history.start(BuildRecord(ref="killed", created=1.0))
    history.close()
    again = History(tmp_path)
    assert again.dropped == [str(orphan)]
    assert again.records() == [] and again.active() == []


def test_limits_give_the_newest_first(tmp_path: Path) -> None:
    history = History(tmp_path)
    for ref, completed in (("b", 2.0), ("a", 3.0), ("c", 1.0)):
        finished(history, ref, completed)
    assert [record.ref for record in history.records()] == ["a", "b", "c"]
    assert [record.ref for record in history.records(limit=2)] == ["a", "b"]
    newer = history.records(lambda record: record.ref != "a", limit=1)
    assert [record.ref for record in newer] == ["b"]


def test_clean_up_removes_what_is_old_and_beyond_the_newest(tmp_path: Path) -> None:
    history = History(tmp_path, max_age_s=10.0, max_entries=2)
    finished(history, "pinned", 1.0, pinned=True)
    for number in range(5):
        finished(history, f"build{number}", float(number))
    assert history.clean_up(now=12.5) == 3  # 0, 1, 2 are old; of 3 and 4 neither is beyond two
    assert {record.ref for record in history.records()} == {"pinned", "build3", "build4"}
    assert history.clean_up(now=1000.0) == 0


def test_deleting_spares_blobs_of_others(tmp_path: Path) -> None:
    history = History(tmp_path)
    shared = finished(history, "a", 1.0)
    history.complete(BuildRecord(ref="b", created=0.0, completed=1.0, logs=shared.logs))
    assert shared.logs is not None
    history.delete("a")
    assert history.content.exists(shared.logs.digest)
    history.delete("b")
    assert not history.content.exists(shared.logs.digest)
    with pytest.raises(NotFoundError):
        history.delete("b")


async def test_listeners_hear_what_happens(tmp_path: Path) -> None:
    history = History(tmp_path)
    with history.listen() as queue:
        history.start(BuildRecord(ref="a", created=1.0))
        assert [record.ref for record in history.active()] == ["a"]
        finished(history, "a", 2.0)
        history.pin("a", True)
        history.pin("a", True)
        history.delete("a")
    history.start(BuildRecord(ref="unheard", created=1.0))
    events = [event for _ in range(queue.qsize()) if (event := queue.get_nowait())]
    assert [event.type for event in events] == [
        EventType.STARTED,
        EventType.COMPLETE,
        EventType.COMPLETE,
        EventType.DELETED,
    ]
    assert [event.record.generation for event in events[1:3]] == [0, 1]
    assert events[2].record.is_pinned
    with pytest.raises(NotFoundError):
        history.pin("a", True)
