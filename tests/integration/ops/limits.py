"""Where steps cannot be limited, tests of limits are no use, and harm the machine."""

from __future__ import annotations

from typing import Any

import pytest

from torana.plugins.runtimes import cgroups


def needs_limits(steps: Any) -> None:
    """Skip a test of a runtime that keeps no limits on this machine."""
    if steps.services.runtime.name == "bubblewrap" and not cgroups.can_limit():
        pytest.skip("bubblewrap cannot make cgroups here")
