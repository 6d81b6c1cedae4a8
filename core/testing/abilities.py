"""What suites expect to fail as root of a user namespace, as ordinary users are."""

from __future__ import annotations

import pytest

from torana.core.snapshots.namespace import has_ids, is_mapped_user

other_users = pytest.mark.xfail(
    not has_ids(5555, 5555), reason="no other users where there is one id", strict=True
)
devices = pytest.mark.xfail(
    is_mapped_user(), reason="a user namespace may not make devices", strict=True
)
