"""Sockets from systemd, and news for it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from torana.core.errors import UserError
from torana.gateway.daemon.systemd import (
    notify,
    pick_listeners,
    take_listeners,
    take_notify_address,
)


def test_variables_for_another_process_are_ignored_and_removed() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a", "HOME": "/"}
    assert take_listeners(environment) == {}
    assert environment == {"HOME": "/"}


def test_sockets_are_picked_by_name() -> None:
    first, second = socket.socket(), socket.socket()
    try:
        passed = {"a": [first], "b": [second]}
        assert pick_listeners(passed, "b") == [second]
        assert pick_listeners(passed, "") == [first, second]
        with pytest.raises(UserError, match="no socket was passed for fd://c"):
            pick_listeners(passed, "c")
        with pytest.raises(UserError, match="no socket was passed"):
            pick_listeners({}, "")
    finally:
        first.close()
        second.close()


def test_systemd_is_told(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": os.fspath(tmp_path / "n"), "HOME": "/"}
    address = take_notify_address(environment)
    assert environment == {"HOME": "/"} and take_notify_address(environment) == ""
    assert not notify("", "READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        assert notify(address, "READY=1")
        assert server.recv(100) == b"READY=1"
    assert not notify(os.fspath(tmp_path / "gone"), "READY=1")
