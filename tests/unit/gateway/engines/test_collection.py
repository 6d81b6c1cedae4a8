"""What `TORANA_GC` says."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.errors import UsageError
from torana.core.quantities import Size
from torana.core.worker import Worker
from torana.gateway.engines.collection import is_due, kept_environment, limits


def test_limits() -> None:
    assert limits({}) == {}
    assert limits({"TORANA_GC": "off"}) is None
    assert limits({"TORANA_GC": "max-used-space=2GB,min-free-space=10%"}) == {
        "max_used": Size(2 << 30),
        "min_free": Size(percent=10),
    }


@pytest.mark.parametrize("text", ["on", "max-used-space", "max-used-space=x", "keep=1GB"])
def test_mistakes(text: str) -> None:
    with pytest.raises(UsageError, match="invalid TORANA_GC"):
        limits({"TORANA_GC": text})


def test_the_process_knows_nothing_of_the_build(tmp_path: Path) -> None:
    given = {
        "PATH": "/bin",
        "TOKEN": "secret",
        "TORANA_GC": "off",
        "PYTHONPATH": "/lib",
        "XHOME": "",
    }
    assert kept_environment(tmp_path, given) == {
        "PATH": "/bin",
        "PYTHONPATH": "/lib",
        "TORANA_GC": "off",
        "TORANA_ROOT": str(tmp_path),
    }


def test_what_a_failed_step_left_is_collected(tmp_path: Path) -> None:
    worker = Worker(tmp_path, snapshotter="native")
    try:
        assert not is_due(worker)
        worker.refs.snapshots.prepare("step", None)
        worker.refs.snapshots.remove("step")
        assert is_due(worker)
        worker.refs.sweep()
        assert not is_due(worker)
    finally:
        worker.close()
