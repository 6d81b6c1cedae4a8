"""Default folders: the system's for its root, a user's for everybody else."""

from __future__ import annotations

import pytest

from torana.cli import memo
from torana.core.rights import is_system_root
from torana.gateway.daemon import config


@pytest.mark.parametrize(
    ("uid", "state", "is_root"), [(0, "", True), (0, "/run/x", False), (1000, "", False)]
)
def test_whose_folders(
    monkeypatch: pytest.MonkeyPatch, uid: int, state: str, is_root: bool
) -> None:
    for name in ("TORANA_ROOT", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "ROOTLESSKIT_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    if state:
        monkeypatch.setenv("ROOTLESSKIT_STATE_DIR", state)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert is_system_root() is is_root
    root = "/var/lib/torana" if is_root else "/home/ann/.local/share/torana"
    assert memo.store_root() == str(config.default_root()) == root
    assert (config.default_address() == "unix:///run/torana/toranad.sock") is is_root
