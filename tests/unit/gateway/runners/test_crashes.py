"""What is said of frontends that fail in their confinement."""

from __future__ import annotations

import errno
import socket
from urllib.error import URLError

import pytest

from torana.gateway.runners.crashes import confinement_hint, crash
from torana.gateway.runners.limits import Limits


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (MemoryError(), "2 GiB of memory"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no network"),
        (URLError(socket.gaierror(-3, "Temporary failure")), "no network"),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "/home/a/.config"),
            "only their own files",
        ),
        (PermissionError(errno.EACCES, "Denied", b"/etc/x"), "only their own files"),
        (FileNotFoundError(errno.ENOENT, "No such file", "relative"), None),
        (ValueError("x"), None),
    ],
)
def test_hint(error: Exception, part: str | None) -> None:
    hint = confinement_hint(error, Limits())
    assert (part is None and hint is None) or (
        hint is not None and part is not None and part in hint
    )


def test_cause_counts() -> None:
    try:
        try:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        except OSError as err:
            raise RuntimeError("no index") from err
    except RuntimeError as err:
        assert "no network" in (confinement_hint(err, Limits()) or "")


def test_crash_names_the_line_of_the_plugin() -> None:
    try:
        int("x")
    except ValueError as err:
        made = crash("`a` of distribution `b` 1", err, hint="h")
    assert made.message.startswith("frontend `a` of distribution `b` 1 crashed at test_crashes.py:")
    assert made.message.endswith("ValueError: invalid literal for int() with base 10: 'x'")
