"""One daemon per root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torana.core.errors import ConflictError
from torana.gateway.daemon.lock import RootLock


def test_a_root_has_one_daemon(tmp_path: Path) -> None:
    first, second = RootLock(tmp_path), RootLock(tmp_path)
    first.take()
    with pytest.raises(ConflictError, match="another instance running") as raised:
        second.take()
    assert str(os.getpid()) in (raised.value.hint or "")
    first.release()
    second.take()
    second.release()
