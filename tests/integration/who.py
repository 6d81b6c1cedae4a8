"""What cannot work for whom: tests run as root, and as root of user namespaces.

`rootless/test_same_suite.py` runs them there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torana.core.testing.abilities import devices, other_users
from torana.plugins.runtimes.cgroups import has_pure_cgroup2

__all__ = ["devices", "groups", "other_users", "settings"]

_GROUPS = Path("/sys/fs/cgroup", "" if has_pure_cgroup2() else "pids")

settings = pytest.mark.xfail(
    not os.access("/proc/sys/kernel/panic", os.W_OK),
    reason="settings of the kernel belong to root of the machine",
    strict=True,
)
groups = pytest.mark.xfail(
    not os.access(_GROUPS, os.W_OK), reason="cgroups belong to root of the machine", strict=True
)
