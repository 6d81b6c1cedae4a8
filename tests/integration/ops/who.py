"""What cannot work for whom: these tests run as root, and as root of user namespaces.

`rootless/test_same_suite.py` runs them in namespaces.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torana.core.snapshots.namespace import has_ids, is_mapped_user
from torana.plugins.runtimes.cgroups import has_pure_cgroup2

_GROUPS = Path("/sys/fs/cgroup", "" if has_pure_cgroup2() else "pids")

other_users = pytest.mark.xfail(
    not has_ids(5555, 5555), reason="no other users where there is one id", strict=True
)
devices = pytest.mark.xfail(
    is_mapped_user(), reason="a user namespace may not make devices", strict=True
)
settings = pytest.mark.xfail(
    not os.access("/proc/sys/kernel/panic", os.W_OK),
    reason="settings of the kernel belong to root of the machine",
    strict=True,
)
groups = pytest.mark.xfail(
    not os.access(_GROUPS, os.W_OK), reason="cgroups belong to root of the machine", strict=True
)
