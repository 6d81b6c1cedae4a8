"""Whose process this is, as far as default folders go. On the path of every build: imports `os`."""

from __future__ import annotations

import os


def is_system_root() -> bool:
    """Say whether we are root of a machine or container, whose folders are ours to use.

    Programs started by RootlessKit are root of a namespace in the middle of a user's machine.
    """
    return os.geteuid() == 0 and "ROOTLESSKIT_STATE_DIR" not in os.environ
